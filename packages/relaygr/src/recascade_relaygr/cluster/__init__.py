"""Several instances behind one gateway."""
