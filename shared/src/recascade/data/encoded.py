"""A split with its identifiers turned into indices: what models train on and evaluators read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recascade.data.events import EventSequences, ranges, stretches

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable
    from recascade.data.item_domains import ItemDomains
    from recascade.data.split_manifest import SplitManifest
    from recascade.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class HeldOut:
    """E evaluation users, each with a history and a set of target items that came after it.

    Attributes:
        users: int64 ``[E]``, index in the user vocabulary and row of ``EncodedSplit.events``; -1 is never used here.
        history_ends: int64 ``[E]``; the known history of row e is
            ``events[events.offsets[users[e]] : history_ends[e]]``. It holds nothing later than the targets, and
            events of the targets' own time only under ``ties=shuffle`` and ``file``.
        target_offsets: int64 ``[E + 1]``; row e owns targets ``target_offsets[e]`` to ``target_offsets[e + 1]``.
        target_items: int32 ``[sum]``, index in the item vocabulary; -1 for an item the vocabulary does not hold (it can
            never be recommended, so it counts as missed).
        target_timestamps: int64 ``[sum]``, seconds.
    """

    users: NDArray[np.int64]
    history_ends: NDArray[np.int64]
    target_offsets: NDArray[np.int64]
    target_items: NDArray[np.int32]
    target_timestamps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class EncodedSplit:
    """One split, ready for training and evaluation.

    Attributes:
        manifest: protocol, tie rule, filters, fingerprint.
        items: item vocabulary of the training events and (if the manifest says so) the catalogue file; indices 0…I-1.
        users: user vocabulary in the row order of ``events``.
        events: per user the training events followed by the validation events.
        train_ends: int64 ``[U]``; user u trains on ``events[offsets[u] : train_ends[u]]``.
        validation: targets for choosing; histories end where training ends, or after events that the data set gives as
            known but not trained on.
        test: targets for the one final measurement; histories hold training and validation events.
        item_features: features of the I items, or None where the data set has none.
        user_features: features of the U users, or None.
        item_domains: the domain of each item, or None where the log has no column ``domain``.
    """

    manifest: SplitManifest
    items: Vocabulary
    users: Vocabulary
    events: EventSequences
    train_ends: NDArray[np.int64]
    validation: HeldOut
    test: HeldOut
    item_features: FeatureTable | None = None
    user_features: FeatureTable | None = None
    item_domains: ItemDomains | None = None

    @property
    def train_lengths(self) -> NDArray[np.int64]:
        """int64 ``[U]``, training events per user."""
        return self.train_ends - self.events.offsets[:-1]

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """int64 ``[I]``, training events per item: its popularity."""
        counts = np.zeros(len(self.items), dtype=np.int64)
        starts, lengths = np.asarray(self.events.offsets[:-1]), self.train_lengths
        for start, stop in stretches(self.events.offsets):
            index = ranges(starts[start:stop], lengths[start:stop])
            counts += np.bincount(self.events.items[index], minlength=len(counts))
        return counts

    @cached_property
    def rankable(self) -> NDArray[np.int64] | None:
        """int64 ``[C]``: the items that can answer a request, those of the target domain; None for all."""
        if self.item_domains is None:
            return None
        domain = self.manifest.config.target_domain
        return self.item_domains.members(domain) if domain else None

    def with_validation_trained(self) -> EncodedSplit:
        """The same split with the validation events counted as training events, for the last fit before the test."""
        return replace(self, train_ends=self.events.offsets[1:])
