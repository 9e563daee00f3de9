"""ReCast: reinforcement learning that learns from groups in which nobody hit (arXiv 2604.22169)."""

__version__ = "0.1.0"
