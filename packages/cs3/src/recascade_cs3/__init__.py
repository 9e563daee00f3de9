"""CS3: two towers that learn online from themselves, from each other and from the ranker (arXiv 2604.19269)."""

__version__ = "0.1.0"
