"""The generative ranker, and the check that its prefixes may be run ahead of time."""
