"""Evaluation of a reward model, as it is served: from ranked groups to ``results.json``."""
