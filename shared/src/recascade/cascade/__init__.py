"""The whole cascade: retrieve, rank and re-rank as one recommender, trained by one command and served by another."""
