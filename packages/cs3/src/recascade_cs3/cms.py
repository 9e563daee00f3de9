"""Cascade-Model Sharing (CMS): both sides keep a running mean of the ranker's last hidden layer.

Reported: zero at first; on every labelled event (u, v), positive or negative, with the ranker's penultimate activation
h_uv

    s_u ← β s_u + (1 - β) h_uv        s_v ← β s_v + (1 - β) h_uv

The vectors are inputs of the towers. It is not distillation: no loss refers to the ranker, and the towers never call
it. h is taken before the ranker's own step on the event (our choice), so that it does not hold the event's label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recascade_cs3.running_mean import Occurrences, RunningMeans


class CascadeVectors:
    """The cascade vectors of all users and items.

    Args:
        width: h, of the ranker's last hidden layer.
        beta: share of the old value kept at each event.
    """

    def __init__(self, width: int, beta: float) -> None:
        self.users = RunningMeans(width, beta)
        self.items = RunningMeans(width, beta)

    def write(self, users: NDArray[np.int64], items: NDArray[np.int64], hidden: Tensor) -> None:
        """Let n events in, oldest first: users int64 ``[n]``, items int64 ``[n]``, the ranker's ``[n, width]``."""
        self.users.write(Occurrences.of(users), hidden)
        self.items.write(Occurrences.of(items), hidden)
