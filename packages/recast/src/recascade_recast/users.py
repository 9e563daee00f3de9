"""Who teaches and who is reinforced: users kept out of supervised training, so that rewards say something new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recascade.data.next_item import NextItemData
from recascade.errors import DataError

_STREAM = 5


def reinforced_users(users: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of so many users are kept for reinforcement: bool ``[users]``, a seeded draw of about ``share`` of them."""
    chosen = np.zeros(users, dtype=bool)
    order = np.random.default_rng((seed, _STREAM)).permutation(users)
    chosen[order[: round(share * users)]] = True
    return chosen


def of_users(data: NextItemData, chosen: NDArray[np.bool_]) -> NextItemData:
    """The same data module with the training windows of the chosen users alone (bool ``[U]``).

    Raises:
        DataError: none of them has two training events.
    """
    windows = data.windows
    kept = chosen[windows.users]
    if not kept.any():
        raise DataError(
            "None of the users of this stage has two training events one after the other. Set another "
            "model.reinforced_users, or loosen the split's filters."
        )
    data.windows = replace(
        windows, users=windows.users[kept], starts=windows.starts[kept], lengths=windows.lengths[kept]
    )
    return data
