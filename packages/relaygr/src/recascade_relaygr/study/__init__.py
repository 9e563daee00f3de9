"""The cluster study: what the relay is worth in which setting, simulated, as one page."""
