"""The shared core's own methods, registered like any other: counting floors and the field's standard neural models."""
