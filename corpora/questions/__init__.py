"""Readers of question suites, one file a published layout."""
