"""Measuring lists of recommendations: full ranking, metrics, groups of users, significance."""
