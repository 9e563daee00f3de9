"""GR4AD: generative retrieval of ads, trained by value and served under a latency budget (arXiv 2602.22732)."""

__version__ = "0.1.0"
