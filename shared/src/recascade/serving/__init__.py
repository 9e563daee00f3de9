"""Serving: what a single request costs."""
