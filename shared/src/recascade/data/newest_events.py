"""What a service must know of each user when it starts: the newest events of the log."""

from __future__ import annotations

import numpy as np
import polars as pl

from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges


def newest_events(data: EncodedSplit, most: int) -> pl.DataFrame:
    """The newest events of every user.

    Args:
        data: the encoded split.
        most: events of a user at most.

    Returns:
        A row per user in the order of the vocabulary: ``user_id``, and the lists ``items`` (int64, numbers of the
        vocabulary) and ``timestamps`` (int64, seconds), oldest first; null for a user without events.
    """
    offsets = np.asarray(data.events.offsets)
    starts = np.maximum(offsets[:-1], offsets[1:] - most)
    lengths = offsets[1:] - starts
    places = ranges(starts, lengths)
    events = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(lengths)), lengths),
            "items": np.asarray(data.events.items)[places].astype(np.int64),
            "timestamps": np.asarray(data.events.timestamps)[places],
        }
    )
    lists = events.group_by("row", maintain_order=True).agg("items", "timestamps")
    users = pl.DataFrame({"row": np.arange(len(lengths)), "user_id": data.users.ids})
    return users.join(lists, on="row", how="left", maintain_order="left").drop("row")
