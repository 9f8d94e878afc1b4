"""Rounds on Ray: sample → score → pair → train → gate → deploy, each step recorded in a ledger.

Decisions (``pairs``, ``gate``, ``monitors``, ``summary``) are pure; ``rounds`` is the round itself,
to be read top to bottom.
"""
