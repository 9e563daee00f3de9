"""The k best items of each request, exactly, without ever holding users × items.

Both functions break ties in score by the lower item index. Vocabularies are seeded permutations that do not depend on
popularity, so the rule is deterministic and gives no item an advantage.

Short lists of many requests from a large catalogue come, on a CPU, from ``recascade.nn.streamed_best``; all others from
scores of a chunk of items and from the maxima of their blocks (``recascade.nn.block_selection``). Both are our choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.errors import ConfigurationError, DataError
from recascade.nn.block_selection import BLOCK, LOW_BITS, best_keys, block_maxima, blocks_of, decode_scores, hide
from recascade.nn.streamed_best import ITEMS, QUERIES, streamed_best

# Scores held at once on a CPU (6 MB), and the width of a tile: 128 rows of it fill a second-level cache of 1 MB.
CPU_PANEL = 3 << 19
CPU_TILE = 2048
ACCELERATOR_ROWS = 2048
# On a CPU scores are streamed where that pays: longer lists leave most blocks among the survivors, fewer requests leave
# too little work per tile, and a smaller catalogue fits the cache whole. Our choice, measured.
STREAMED_LIST = 128
STREAMED_REQUESTS = 128
STREAMED_ITEMS = 16 * ITEMS


@torch.no_grad()
def top_k_scores(scores: Tensor, k: int, *, seen: Context | None = None, candidates: Tensor | None = None) -> TopK:
    """The k best of given scores.

    Args:
        scores: floating ``[B, I]``; -inf marks an item that must not be recommended. Not changed.
        k: list length.
        seen: the B requests whose own items are left out, or None.
        candidates: int64 ``[C]``, rank only these items; None ranks all.

    Returns:
        items int64 ``[B, k]`` and scores float32 ``[B, k]``, best first; -1 and -inf where a row has fewer items to
        give.
    """
    _check_length(k)
    selection = _Selection(scores.shape[1], scores.device, seen, candidates)
    lists = []
    for start in range(0, len(scores), ACCELERATOR_ROWS):
        part = scores[start : start + ACCELERATOR_ROWS]
        if selection.candidates is not None:
            part = part[:, selection.candidates]
        part = part.to(torch.float32, copy=seen is not None)
        rows, columns = selection.seen_between(start, start + len(part), 0, part.shape[1])
        part[rows, columns] = -torch.inf
        lists.append(best_keys(part, block_maxima(part), 0, k))
    return selection.decode(_concatenate(lists, len(scores), scores.device), k)


@torch.no_grad()
def top_k_inner_product(
    queries: Tensor,
    item_vectors: Tensor,
    k: int,
    *,
    bias: Tensor | None = None,
    seen: Context | None = None,
    candidates: Tensor | None = None,
    item_chunk: int = 65536,
) -> TopK:
    """The k items with the largest ``queries @ item_vectors.T + bias``, computed in float32.

    Args:
        queries: floating ``[B, d]``.
        item_vectors: floating ``[I, d]``.
        k: list length.
        bias: floating ``[I]``, added to every row's scores, or None.
        seen: the B requests whose own items are left out, or None.
        candidates: int64 ``[C]``, rank only these items; None ranks all.
        item_chunk: most items scored before their best are merged; memory is at least 64 rows × ``item_chunk`` × 4
            bytes, or 8 MB if that is less on a CPU.

    Returns:
        As ``top_k_scores``.
    """
    _check_length(k)
    device = queries.device
    selection = _Selection(len(item_vectors), device, seen, candidates)
    if selection.candidates is not None:
        item_vectors = item_vectors[selection.candidates]
        bias = None if bias is None else bias[selection.candidates]
    queries, item_vectors = queries.to(torch.float32), item_vectors.to(torch.float32)
    bias = None if bias is None else bias.to(torch.float32)
    # Chunk borders on block borders: a block belongs to one chunk.
    item_chunk = min(max(BLOCK, item_chunk // BLOCK * BLOCK), max(len(item_vectors), 1))
    many = len(queries) >= STREAMED_REQUESTS and len(item_vectors) >= STREAMED_ITEMS
    if device.type == "cpu" and k <= STREAMED_LIST and many:
        lists = []
        for start in range(0, len(queries), QUERIES):
            query = queries[start : start + QUERIES]
            hidden = selection.seen_between(start, start + len(query), 0, len(item_vectors))
            lists.append(streamed_best(query, item_vectors, bias, *hidden, k))
        return selection.decode(_concatenate(lists, len(queries), device), k)
    if device.type == "cpu":
        rows_at_once, tile = max(64, CPU_PANEL // item_chunk), CPU_TILE
    else:
        rows_at_once, tile = ACCELERATOR_ROWS, item_chunk
    panel = torch.empty(min(rows_at_once, len(queries)), item_chunk, device=device)
    lists = []
    for start in range(0, len(queries), rows_at_once):
        query = queries[start : start + rows_at_once]
        best: Tensor | None = None
        for first in range(0, len(item_vectors), item_chunk):
            items = item_vectors[first : first + item_chunk]
            scores = panel[: len(query), : len(items)]
            maxima = _score(query, items, None if bias is None else bias[first : first + item_chunk], scores, tile)
            rows, columns = selection.seen_between(start, start + len(query), first, first + len(items))
            hide(scores, maxima, rows, columns)
            keys = best_keys(scores, maxima, first, k)
            if best is not None:
                keys = torch.cat([best, keys], dim=1)
                keys = keys.topk(min(k, keys.shape[1]), dim=1).values
            best = keys
        if best is not None:
            lists.append(best)
    return selection.decode(_concatenate(lists, len(queries), device), k)


class _Selection:
    """Which places of a row may be recommended: numbers places 0…C-1 when there are candidates, and hides seen
    items."""

    def __init__(self, items: int, device: torch.device, seen: Context | None, candidates: Tensor | None) -> None:
        self.candidates: Tensor | None = None
        place: Tensor | None = None
        if candidates is not None:
            # Sorted, so that the order of places is the order of indices and ties break alike with and without
            # candidates.
            self.candidates = torch.unique(candidates.to(device))
            refuse_impossible_candidates(self.candidates, items)
            place = torch.full((items,), -1, dtype=torch.int64, device=device)
            place[self.candidates] = torch.arange(len(self.candidates), device=device)
        self.offsets: Tensor | None = None
        if seen is not None:
            seen = seen.to(device)
            self.offsets = seen.offsets.cpu()
            self.rows = seen.rows
            self.places = seen.items if place is None else place[seen.items]

    def seen_between(self, start: int, stop: int, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Row and column, within the window of rows ``start:stop`` and places ``first:last``, of the items to hide."""
        if self.offsets is None:
            nothing = torch.empty(0, dtype=torch.int64)
            return nothing, nothing
        events = slice(int(self.offsets[start]), int(self.offsets[stop]))
        rows, places = self.rows[events], self.places[events]
        inside = (places >= first) & (places < last)
        return rows[inside] - start, places[inside] - first

    def decode(self, keys: Tensor, k: int) -> TopK:
        """Keys, best first, to items and scores, filled up to k places."""
        scores = decode_scores(keys)
        items = LOW_BITS - (keys & LOW_BITS)
        if self.candidates is not None and items.numel():
            items = self.candidates[items]
        items = items.masked_fill(scores == -torch.inf, -1)
        missing = k - keys.shape[1]
        if missing > 0:
            items = torch.nn.functional.pad(items, (0, missing), value=-1)
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
        return TopK(items, scores)


def refuse_impossible_candidates(candidates: Tensor, items: int) -> None:
    """Refuse candidates (int64 ``[C]``) that are no items of a catalogue of so many.

    Raises:
        DataError: one is negative or too large.
    """
    if not len(candidates):
        return
    least, greatest = int(candidates.min()), int(candidates.max())
    if least < 0 or greatest >= items:
        raise DataError(
            f"Candidates must be item indices from 0 to {items - 1}, but they reach from {least} to {greatest}."
        )


def _check_length(k: int) -> None:
    if k < 1:
        raise ConfigurationError(f"A list needs at least one place, but k is {k}.")


def _score(queries: Tensor, items: Tensor, bias: Tensor | None, scores: Tensor, tile: int) -> Tensor:
    """Fill ``scores`` ``[B, I]`` tile by tile; returns the maximum of each whole block, ``[B, I // BLOCK]``."""
    maxima = torch.empty(len(queries), len(items) // BLOCK, device=queries.device)
    for start in range(0, len(items), tile):
        stop = min(start + tile, len(items))
        window = scores[:, start:stop]
        torch.mm(queries, items[start:stop].T, out=window)
        if bias is not None:
            window += bias[start:stop]
        whole = (stop - start) // BLOCK
        if whole:
            blocks = blocks_of(window, whole)
            torch.amax(blocks, dim=2, out=maxima[:, start // BLOCK : start // BLOCK + whole])
    return maxima


def _concatenate(lists: list[Tensor], rows: int, device: torch.device) -> Tensor:
    return torch.cat(lists) if lists else torch.empty(rows, 0, dtype=torch.int64, device=device)
