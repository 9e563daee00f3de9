"""Adapters: each turns one published format into the canonical tables."""
