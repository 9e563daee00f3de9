"""PSAD: a re-ranker that thinks in blocks and answers in one pass (a reconstruction of arXiv 2603.07107)."""

__version__ = "0.1.0"
