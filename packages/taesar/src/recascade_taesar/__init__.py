"""Taesar: histories of several domains become training data of one (WWW 2026, arXiv 2602.22743)."""

__version__ = "0.1.0"
