"""Building blocks in pure torch, tensors in and tensors out: packed attention, blocks, losses, exact top-k."""
