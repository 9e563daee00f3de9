"""recascade: the shared core of a recommender cascade.

Importing this package costs nothing: every subpackage is imported by who needs it, and torch only by what computes
with it.
"""

__version__ = "0.1.0"
