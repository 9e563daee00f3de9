"""Events on disk, splits, vocabularies, batches. Knows nothing of models."""
