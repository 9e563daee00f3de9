"""Domain-specific adaptation: from each event of a domain to the next one of it, skipping what lies between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.next_item import NextItemBatch, NextItemData, TrainingWindows, Windows
from recascade.models.post_norm_sasrec import PostNormSASRec
from recascade.nn.losses import full_softmax
from recascade.training.compilation import compiled
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule


def successors(data: EncodedSplit) -> NDArray[np.int64]:
    """int64 ``[N]``: of each training event the same user's next training event in the same domain, else -1."""
    assert data.item_domains is not None
    offsets, ends = np.asarray(data.events.offsets), np.asarray(data.train_ends)
    events = ranges(offsets[:-1], ends - offsets[:-1])
    users = np.repeat(np.arange(len(ends)), ends - offsets[:-1])
    keys = users * len(data.item_domains.names) + data.item_domains.codes[np.asarray(data.events.items)[events]]
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    following = np.full(len(data.events.items), -1, dtype=np.int64)
    following[events[order[:-1][same]]] = events[order[1:][same]]
    return following


class AdaptationData(NextItemData):
    """Batches of mixed histories in which only the events of one domain are predicted, each at the one before it.

    The release trains on whole rows and takes the K - 1 terms of a row's K events of the domain. Here a row ends at its
    last term, which changes no term, and rows without one are left out.

    Args:
        data: the encoded split, with domains; its test part is not touched.
        settings: batch sizes, buckets, workers.
        domain: place of the domain in ``data.item_domains``.
        following: from ``successors``.
        max_length: most events of a row.
        windows: ``last`` or ``chunks``.
        seed: orders the batches and samples the validation users.
    """

    def __init__(
        self,
        data: EncodedSplit,
        settings: TrainerConfig,
        *,
        domain: int,
        following: NDArray[np.int64],
        max_length: int,
        windows: Windows = "last",
        seed: int = 0,
    ) -> None:
        super().__init__(data, settings, max_length=max_length, windows=windows, seed=seed)
        self.settings: TrainerConfig = settings
        assert data.item_domains is not None
        self._columns = np.full(len(data.items), -1, dtype=np.int64)
        members = data.item_domains.members(data.item_domains.names[domain])
        self._columns[members] = np.arange(len(members))
        self._following = following
        self._terms = (following >= 0) & (data.item_domains.codes[self._items] == domain)
        self.windows = self._ending_at_last_term()

    def _ending_at_last_term(self) -> TrainingWindows:
        windows = self.windows
        events = ranges(windows.starts, windows.lengths)
        owners = np.repeat(np.arange(len(windows.starts)), windows.lengths)
        places = ranges(np.ones_like(windows.lengths), windows.lengths)
        lengths = np.zeros_like(windows.lengths)
        np.maximum.at(lengths, owners, np.where(self._terms[events], places, 0))
        kept = lengths > 0
        return replace(windows, users=windows.users[kept], starts=windows.starts[kept], lengths=lengths[kept])

    def val_dataloader(self) -> Any:
        """The validation rows, or none where every epoch is trained whatever they say."""
        return super().val_dataloader() if self.settings.patience else []

    def training_batch(self, indices: NDArray[np.int64]) -> NextItemBatch:
        """The batch of the given rows; targets are places in the domain, not items of the vocabulary."""
        starts, lengths = self.windows.starts[indices], self.windows.lengths[indices]
        events = ranges(starts, lengths)
        positions = np.flatnonzero(self._terms[events])
        targets = self._columns[self._items[self._following[events[positions]]]]
        context = self._context(self.windows.users[indices], events, lengths)
        return NextItemBatch(context, torch.from_numpy(positions), torch.from_numpy(targets))


class AdaptationModule(NextItemModule):
    """Trains an expert: the softmax is over the items of its domain alone.

    Args:
        model: a copy of the mixed model.
        data: the split, whose item domains say which items those are; validation is over them, too.
        members: int64 ``[C]``, the domain's items.
        trainer: learning rate, monitor and so on.
    """

    _members: Tensor

    def __init__(self, model: PostNormSASRec, data: EncodedSplit, members: Tensor, trainer: TrainerConfig) -> None:
        super().__init__(model, data, LossConfig(), trainer)
        self.register_buffer("_members", members, persistent=False)
        self._states_at = compiled(model.states, trainer)

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """The mean loss over the batch's terms."""
        states = self._states_at(batch.context, batch.positions)
        return full_softmax(states, self._item_vectors(self._members), batch.targets)
