"""Rewards where other programs want them. All of it stands on the client and needs no more."""
