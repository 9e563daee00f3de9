"""The data stage: from a data set to a better one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from recascade.data.dataset import Dataset


@runtime_checkable
class Transform(Protocol):
    """Anything that makes training data out of data: regeneration, filtering, augmentation.

    The result is an ordinary canonical data set, so that every method can be trained on it. Where held-out events must
    stay the same, it carries its split in the column ``split_part``; where events are made up, it says where each comes
    from in the columns ``origin`` (``original``, ``replaced``, ``inserted``), ``source_item_id`` and ``score``, and
    whose history a made-up user's row belongs to in ``source_user_id``.
    """

    def transform(self, dataset: Dataset, destination: Path) -> Dataset:
        """Write the new data set to a folder that does not exist yet, and open it."""
        ...
