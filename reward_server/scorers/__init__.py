"""The kinds of reward: one module a kind, each an implementation of ``scorer.Scorer``."""
