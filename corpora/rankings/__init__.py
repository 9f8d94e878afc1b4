"""Readers of ranked groups, one file a published layout."""
