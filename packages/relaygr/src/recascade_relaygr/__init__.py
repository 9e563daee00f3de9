"""RelayGR: rank with long histories inside the latency budget, by running the prefix early (arXiv 2601.01712)."""

__version__ = "0.1.0"
