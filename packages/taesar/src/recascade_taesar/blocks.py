"""The catalogue in an order in which every domain is one block of neighbouring columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recascade.data.item_domains import ItemDomains


@dataclass(frozen=True)
class DomainBlocks:
    """C columns, domain after domain.

    Attributes:
        order: int64 ``[C]``, the item (index in the vocabulary) of each column; -1 for the padding id that a release's
            weights score beside the items.
        starts: int64 ``[M + 1]``; domain k owns columns ``starts[k]`` to ``starts[k + 1]``.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, domains: ItemDomains, ranks: NDArray[np.int64] | None = None) -> DomainBlocks:
        """Sort the items by domain, then by rank.

        Args:
            domains: of the I items.
            ranks: int64 ``[I]``; None for the order of the vocabulary, which is seeded.
        """
        ranks = np.arange(len(domains.codes)) if ranks is None else ranks
        order = np.lexsort((ranks, domains.codes)).astype(np.int64)
        return cls(order, np.searchsorted(domains.codes[order], np.arange(len(domains.names) + 1)).astype(np.int64))

    def with_padding(self) -> DomainBlocks:
        """The same blocks behind a first column for the padding id."""
        return DomainBlocks(np.concatenate([[-1], self.order]), self.starts + 1)

    def block(self, domain: int) -> slice:
        """The columns of a domain."""
        return slice(int(self.starts[domain]), int(self.starts[domain + 1]))

    def members(self, domain: int) -> NDArray[np.int64]:
        """int64, the items of a domain in the order of its block."""
        return self.order[self.block(domain)]


def first_appearance(users: NDArray[np.int64], items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """int64 ``[count]``: place of each item's first event; items without any come last.

    Args:
        users: int64 ``[N]``, the user of each event, ascending.
        items: int64 ``[N]``, the item, oldest first within a user; -1 is left out.
        count: number of items.
    """
    assert (np.diff(users) >= 0).all()
    ranks = np.full(count, len(items), dtype=np.int64)
    np.minimum.at(ranks, items[items >= 0], np.flatnonzero(items >= 0))
    return ranks
