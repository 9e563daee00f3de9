"""What answers are made from: a user tower, an index of item vectors and the users' tables, all of one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.errors import DataError
from recascade.serving.item_index import ItemIndex
from recascade_cs3.histories import RecentPositives
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.serving_model import ServingModel

_TUNING_USERS = 256
_USERS_AT_ONCE = 8192


@dataclass(frozen=True)
class Snapshot:
    """Never changed: what comes later is another snapshot.

    Attributes:
        model: the towers.
        index: vectors of the items, by row.
        index_version: version of the model that computed these vectors.
        tables: the tables' epoch: events that the learner had scored.
        users: row of each identifier.
        items: identifier of each row.
        cross: the users' cross vectors, float32 ``[1 + users, w]``, zeros for the unknown user first; None without CTS.
        cascade_width: width of the cascade vectors that a request brings for the user tower; 0 without CMS.
        histories: the users' latest positives; None where the user tower reads none.
        vectors: the users' own vectors, float32 ``[1 + users, d]``, that of the unknown user first; None where each
            request runs the user tower. See ``encode_users``.

    Raises:
        DataError: index and towers are of different models.
    """

    model: ServingModel
    index: ItemIndex
    index_version: str
    tables: int
    users: Mapping[str, int]
    items: Sequence[str]
    cross: NDArray[np.float32] | None
    cascade_width: int
    histories: RecentPositives | None
    vectors: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.index_version != self.model.version or self.index.dimension != self.model.width:
            raise DataError(
                f"The index holds vectors of {self.index.dimension} numbers from model {self.index_version}, the user "
                f"tower gives {self.model.width} and is of model {self.model.version}; encode the items with this "
                "model."
            )

    @property
    def versions(self) -> dict[str, str]:
        """Of the model and of the tables."""
        return {"model": self.model.version, "tables": str(self.tables)}

    def rows(self, users: Sequence[str]) -> NDArray[np.int64]:
        """int64 ``[n]``, -1 for users that nobody has seen."""
        return np.array([self.users.get(user, -1) for user in users], dtype=np.int64)

    def user_vectors(self, rows: NDArray[np.int64], cascade: NDArray[np.float32] | None) -> Tensor:
        """float32 ``[n, d]``.

        Args:
            rows: int64 ``[n]``, -1 for unknown users.
            cascade: float32 ``[n, cascade_width]``; None where that is 0.
        """
        if self.vectors is not None:
            return torch.from_numpy(self.vectors[rows + 1])
        blocks: list[NDArray[np.float32]] = []
        if self.cross is not None:
            blocks.append(self.cross[rows + 1])
        if cascade is not None:
            blocks.append(cascade)
        return self.model.user_vectors(rows, blocks, self.histories)


def take_snapshot(
    learner: OnlineLearner,
    users: GrowingVocabulary,
    items: GrowingVocabulary,
    new_index: Callable[[int], ItemIndex],
) -> Snapshot:
    """Copy the learner's weights and tables, and encode all items anew. Clears the learner's marks of changed items.

    Args:
        learner: between two micro-batches.
        users: the learner's vocabularies.
        items: likewise.
        new_index: makes an empty index for vectors of a width.
    """
    model = ServingModel(learner)
    index = new_index(model.width)
    rows = torch.arange(len(items))
    index.upsert(rows, model.item_vectors(rows, learner.tables))
    snapshot = _snapshot_of(learner, users, items, model, index)
    index.tune(_some_user_vectors(snapshot, learner))
    return snapshot


def encode_users(snapshot: Snapshot, learner: OnlineLearner) -> Snapshot:
    """The same snapshot with the vectors of all users, so that a request looks one up and runs no tower.

    That is exact wherever the snapshot fixes everything that the user tower reads, as it does unless cascade vectors
    come from a store that others write to. It costs one run of the tower per user and 4·d bytes.

    Args:
        snapshot: just taken of this learner.
        learner: whose cascade vectors are read; no event has come in between.
    """
    cascade = learner.tables.cascade
    vectors = torch.empty(1 + len(snapshot.users), snapshot.model.width)
    for start in range(-1, len(snapshot.users), _USERS_AT_ONCE):
        rows = torch.arange(start, min(start + _USERS_AT_ONCE, len(snapshot.users)))
        stored = None if cascade is None else cascade.users.read(rows).numpy()
        vectors[start + 1 : start + 1 + len(rows)] = snapshot.user_vectors(rows.numpy(), stored)
    return replace(snapshot, vectors=vectors.numpy(), cross=None, cascade_width=0)


def refresh(snapshot: Snapshot, learner: OnlineLearner, users: GrowingVocabulary, items: GrowingVocabulary) -> Snapshot:
    """The same towers with the tables of now: only items whose tables changed, or that are new, are encoded.

    The old snapshot goes on answering meanwhile; its index is copied, not changed. Clears the learner's marks of
    changed items. Users are not encoded, whether or not they were before.

    Args:
        snapshot: of this learner, taken or refreshed earlier.
        learner: between two micro-batches.
        users: the learner's vocabularies.
        items: likewise.
    """
    # The stream names items a little ahead of the learner, which has no marks for them yet.
    changed = np.zeros(len(items), dtype=np.bool_)
    marks = learner.dirty_items[: len(items)]
    changed[: len(marks)] = marks
    changed[len(snapshot.items) :] = True
    rows = torch.from_numpy(np.flatnonzero(changed))
    index = snapshot.index.copy()
    index.upsert(rows, snapshot.model.item_vectors(rows, learner.tables))
    return _snapshot_of(learner, users, items, snapshot.model, index)


def _snapshot_of(
    learner: OnlineLearner, users: GrowingVocabulary, items: GrowingVocabulary, model: ServingModel, index: ItemIndex
) -> Snapshot:
    tables = learner.tables
    learner.dirty_items[:] = False
    user_ids = users.ids.to_list()
    return Snapshot(
        model=model,
        index=index,
        index_version=model.version,
        tables=learner.scored,
        users=dict(zip(user_ids, range(len(user_ids)), strict=True)),
        items=items.ids.to_list(),
        # The stream names users a little ahead of the learner; these have no row yet and read zeros.
        cross=None if tables.cross is None else tables.cross.users.read(torch.arange(-1, len(user_ids))).numpy(),
        cascade_width=0 if tables.cascade is None else tables.cascade.users.width,
        histories=_copy_of_histories(tables.histories, model.history_length),
    )


def _copy_of_histories(histories: RecentPositives, read: int) -> RecentPositives | None:
    if not read:
        return None
    copied = RecentPositives(histories.length)
    copied.restore({name: tensor.clone() for name, tensor in histories.tensors().items()})
    return copied


def _some_user_vectors(snapshot: Snapshot, learner: OnlineLearner) -> Tensor:
    """Vectors of known users, to tune an index with: what it will be asked."""
    chosen = np.random.default_rng(0).permutation(len(snapshot.users))[:_TUNING_USERS]
    cascade = learner.tables.cascade
    return snapshot.user_vectors(
        chosen, None if cascade is None else cascade.users.read(torch.from_numpy(chosen)).numpy()
    )
