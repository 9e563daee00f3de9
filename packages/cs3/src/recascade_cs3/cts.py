"""Cross-Tower Synchronization (CTS): each side keeps a running mean of what the other tower said on its positives.

Reported: zero at first; on a positive event (u, v) with tower outputs u, v

    c_u ← α c_u + (1 - α) v        c_v ← α c_v + (1 - α) u

and nothing on a negative one. The vectors are inputs of the towers; no gradient enters or leaves them. A parameter
server writes the same as plain SGD with step 1 - α on the pseudo-gradient c - v.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade_cs3.running_mean import Occurrences, RunningMeans


class CrossVectors:
    """The cross vectors of all users and items.

    Args:
        user_width: of the user tower's outputs, hence of an item's cross vector.
        item_width: of the item tower's outputs, hence of a user's cross vector.
        alpha: share of the old value kept at each positive.
    """

    def __init__(self, user_width: int, item_width: int, alpha: float) -> None:
        self.users = RunningMeans(item_width, alpha)
        self.items = RunningMeans(user_width, alpha)

    def write(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        labels: NDArray[np.float32],
        user_vectors: Tensor,
        item_vectors: Tensor,
    ) -> None:
        """Let the positives of n events in, oldest first.

        Args:
            users: int64 ``[n]``.
            items: int64 ``[n]``.
            labels: float32 ``[n]``, 1 or 0.
            user_vectors: ``[n, user_width]``, outputs of this step's forward pass.
            item_vectors: ``[n, item_width]``, likewise.
        """
        positives = np.flatnonzero(labels > 0)
        if not len(positives):
            return
        chosen = torch.from_numpy(positives)
        self.users.write(Occurrences.of(users[positives]), item_vectors.detach().index_select(0, chosen))
        self.items.write(Occurrences.of(items[positives]), user_vectors.detach().index_select(0, chosen))
