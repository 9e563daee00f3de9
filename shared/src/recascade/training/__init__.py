"""One ``fit`` over Lightning, and the modules that say what a step minimises."""
