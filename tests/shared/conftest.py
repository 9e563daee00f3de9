"""Small encoded splits written down by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences
from recascade.data.features import FeatureTable
from recascade.data.split_config import SplitConfig
from recascade.data.split_manifest import SplitManifest
from recascade.data.vocabulary import Vocabulary

MakeSplit = Callable[..., EncodedSplit]


def _offsets(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


def _flat(rows: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    return np.array([value for row in rows for value in row], dtype=dtype)


def make_encoded_split(
    histories: Sequence[Sequence[int]],
    *,
    items: int,
    validation: Sequence[Sequence[int]] | None = None,
    test: Sequence[Sequence[int]] | None = None,
    times: Sequence[Sequence[int]] | None = None,
    target_times: Sequence[Sequence[int]] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    ties: str = "shuffle",
    item_features: FeatureTable | None = None,
) -> EncodedSplit:
    """A split of users 0…U-1 with these training histories, whose validation targets follow in the test histories.

    Rows of ``validation`` and ``test`` are target sets per user; an empty row leaves the user out of the part. Without
    ``times`` all timestamps are 0, that is, unknown.
    """
    users = len(histories)
    validation = validation if validation is not None else [[] for _ in range(users)]
    test = test if test is not None else [[] for _ in range(users)]
    known = [[item for item in targets if item >= 0] for targets in validation]
    rows = [list(history) + extra for history, extra in zip(histories, known, strict=True)]
    times = times if times is not None else [[0] * len(row) for row in rows]
    target_times = target_times if target_times is not None else [[0] * len(row) for row in test]
    groups = groups if groups is not None else [list(range(len(row))) for row in rows]
    offsets = _offsets(rows)
    train_ends = offsets[:-1] + np.array([len(history) for history in histories], dtype=np.int64)

    def held_out(targets: Sequence[Sequence[int]], ends: np.ndarray, when: Sequence[Sequence[int]]) -> HeldOut:
        kept = np.array([user for user, row in enumerate(targets) if len(row)], dtype=np.int64)
        chosen = [targets[user] for user in kept]
        return HeldOut(
            kept, ends[kept], _offsets(chosen), _flat(chosen, np.int32), _flat([when[u] for u in kept], np.int64)
        )

    manifest = SplitManifest("by-hand", "0", True, "", SplitConfig(ties=ties), {}, {}, 0.0, "0" * 16)
    return EncodedSplit(
        manifest=manifest,
        items=Vocabulary([f"item-{item}" for item in range(items)], kind="item"),
        users=Vocabulary([f"user-{user}" for user in range(users)], kind="user"),
        events=EventSequences(offsets, _flat(rows, np.int32), _flat(times, np.int64), _flat(groups, np.int32)),
        train_ends=train_ends,
        validation=held_out(validation, train_ends, [[0] * len(row) for row in validation]),
        test=held_out(test, offsets[1:], target_times),
        item_features=item_features,
    )


@pytest.fixture(scope="session")
def encoded_split() -> MakeSplit:
    """``make_encoded_split``, for tests that write their events down."""
    return make_encoded_split
