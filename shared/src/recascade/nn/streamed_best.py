"""The k best inner products of each query on a CPU, from scores that never leave the cache.

Scores of a tile of items are compared with the k-th best of the tiles before while they are still in the cache; the
few that are greater are kept. So the work beside the matrix products is one pass for the maxima of blocks, and the
memory is that of one tile. Tiles come in the order of the items, so a later score that only equals the k-th best never
enters, which is the rule for ties.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.block_selection import BLOCK, best_keys, blocks_of, decode_scores, hide, sort_keys

# Queries and items of a tile. Our choice, measured: fewer leave too little work per call, more leave the cache.
QUERIES = 512
ITEMS = 4096


def streamed_best(
    queries: Tensor,
    item_vectors: Tensor,
    bias: Tensor | None,
    seen_rows: Tensor,
    seen_places: Tensor,
    k: int,
    width: int = ITEMS,
) -> Tensor:
    """int64 sort keys ``[B, ≤ k]`` of the k best items of each query, descending (``recascade.nn.block_selection``).

    Args:
        queries: float32 ``[B, d]``, at most ``QUERIES`` of them.
        item_vectors: float32 ``[I, d]``, I at least 1.
        bias: float32 ``[I]`` or None.
        seen_rows: int64 ``[n]``, queries of the cells to leave out.
        seen_places: int64 ``[n]``, items of these cells.
        k: list length.
        width: items of a tile, a multiple of ``BLOCK``.
    """
    rows, items = len(queries), len(item_vectors)
    seen_places, order = torch.sort(seen_places)
    seen_rows = seen_rows[order]
    edges = range(0, items + width, width)
    seen_edges: list[int] = torch.searchsorted(seen_places, torch.tensor(edges)).tolist()
    buffer = torch.empty(rows, min(width, items))
    survivors = _Survivors(rows, k)
    for number, first in enumerate(range(0, items, width)):
        last = min(first + width, items)
        # A narrow last tile gets a dense buffer, too: blocks are views of whole rows.
        scores = buffer if last - first == buffer.shape[1] else torch.empty(rows, last - first)
        torch.mm(queries, item_vectors[first:last].T, out=scores)
        if bias is not None:
            scores += bias[first:last]
        whole = (last - first) // BLOCK
        maxima = torch.amax(blocks_of(scores, whole), dim=2)
        here = slice(seen_edges[number], seen_edges[number + 1])
        hide(scores, maxima, seen_rows[here], seen_places[here] - first)
        survivors.add(scores, maxima, first)
    return survivors.best()


class _Survivors:
    """Sort keys of the k best so far, and of those that have beaten the k-th best since it was last looked at."""

    def __init__(self, rows: int, k: int) -> None:
        self.rows, self.k = rows, k
        self.keys = torch.empty(rows, 0, dtype=torch.int64)
        self.bar = torch.full((rows, 1), -torch.inf)
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self.pending_count = 0

    def add(self, scores: Tensor, maxima: Tensor, first: int) -> None:
        """Look at a tile ``[B, I]`` whose first column is place ``first``."""
        # Not "greater": a NaN stays, so that it is noticed.
        rows, blocks = (maxima <= self.bar).logical_not_().nonzero().unbind(1)
        if self.keys.shape[1] < self.k or len(rows) > self.rows * self.k:
            self._merge_pending()
            self._merge(best_keys(scores, maxima, first, self.k))
            return
        values = blocks_of(scores, maxima.shape[1])[rows, blocks]
        self._keep(values, rows, first + BLOCK * blocks)
        whole = maxima.shape[1] * BLOCK
        if whole < scores.shape[1]:
            self._keep(scores[:, whole:], torch.arange(self.rows), torch.tensor(first + whole).expand(self.rows))
        if self.pending_count >= self.rows * self.k:
            self._merge_pending()

    def best(self) -> Tensor:
        """int64 ``[B, ≤ k]``, descending."""
        self._merge_pending()
        return self.keys

    def _keep(self, values: Tensor, rows: Tensor, starts: Tensor) -> None:
        """Of values ``[n, m]`` of these rows, at m places from ``starts`` on, those above the bar."""
        cells = (values <= self.bar[rows]).logical_not_().flatten().nonzero()[:, 0]
        owners = cells // values.shape[1]
        places = starts[owners] + cells % values.shape[1]
        self.pending.append((rows[owners], values.flatten()[cells], places))
        self.pending_count += len(cells)

    def _merge_pending(self) -> None:
        if not self.pending_count:
            return
        rows, values, places = (torch.cat(parts) for parts in zip(*self.pending, strict=True))
        self.pending, self.pending_count = [], 0
        rows, order = torch.sort(rows, stable=True)
        counts = torch.bincount(rows, minlength=self.rows)
        column = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        table = torch.full((self.rows, int(counts.max())), torch.iinfo(torch.int64).min)
        table[rows, column] = sort_keys(values[order], places[order])
        self._merge(table)

    def _merge(self, keys: Tensor) -> None:
        everything = torch.cat([self.keys, keys], dim=1)
        self.keys = everything.topk(min(self.k, everything.shape[1]), dim=1).values
        if self.keys.shape[1] == self.k:
            self.bar = decode_scores(self.keys[:, -1:])
