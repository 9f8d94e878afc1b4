"""Measurements that somebody else can repeat: each prints a table and ends with a JSON line."""
