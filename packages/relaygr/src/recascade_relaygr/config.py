"""The generative ranker and its training. Importable without torch."""
