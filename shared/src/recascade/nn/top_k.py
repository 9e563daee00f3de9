"""The k best items of each request, exactly, without ever holding users × items.

Both functions break ties in score by the lower item index. Vocabularies are seeded permutations that do not depend on
popularity, so the rule is deterministic and gives no item an advantage.

How it is fast on a CPU (our choice): scores are written tile by tile while the tile fits the second-level cache, and
the maximum of each block of 32 neighbouring items is taken while the tile is still there. An item of the k best can
only stand in one of the k blocks with the highest maxima, and in one of the k parts of these with the highest maxima,
so the selection sorts a few small sets instead of all scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.errors import ConfigurationError, DataError

BLOCK = 32
# Blocks are narrowed down once more to parts of this many items.
PART = 4
# Scores held at once on a CPU (6 MB), and the width of a tile: 128 rows of it fill a second-level cache of 1 MB.
CPU_PANEL = 3 << 19
CPU_TILE = 2048
ACCELERATOR_ROWS = 2048
_LOW_BITS = 0xFFFFFFFF


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
        lists.append(_best_keys(part, _block_maxima(part), 0, k))
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
            bytes.

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
            _hide(scores, maxima, rows, columns)
            keys = _best_keys(scores, maxima, first, k)
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
            if len(self.candidates) and (int(self.candidates[0]) < 0 or int(self.candidates[-1]) >= items):
                raise DataError(
                    f"Candidates must be item indices from 0 to {items - 1}, but they reach from "
                    f"{int(self.candidates[0])} to {int(self.candidates[-1])}."
                )
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
        scores = _decode_scores(keys)
        items = _LOW_BITS - (keys & _LOW_BITS)
        if self.candidates is not None and items.numel():
            items = self.candidates[items]
        items = items.masked_fill(scores == -torch.inf, -1)
        missing = k - keys.shape[1]
        if missing > 0:
            items = torch.nn.functional.pad(items, (0, missing), value=-1)
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
        return TopK(items, scores)


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
            blocks = _blocks(window, whole)
            torch.amax(blocks, dim=2, out=maxima[:, start // BLOCK : start // BLOCK + whole])
    return maxima


def _blocks(scores: Tensor, blocks: int) -> Tensor:
    """The first ``blocks`` blocks of each row as a view ``[B, blocks, BLOCK]``."""
    return scores[:, : blocks * BLOCK].view(len(scores), blocks, BLOCK)


def _block_maxima(scores: Tensor) -> Tensor:
    blocks = scores.shape[1] // BLOCK
    return _blocks(scores, blocks).amax(2)


def _hide(scores: Tensor, maxima: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Set the scores of the given cells to -inf and mend the maxima of their blocks."""
    if not len(rows):
        return
    scores[rows, columns] = -torch.inf
    blocks = columns // BLOCK
    whole = blocks < maxima.shape[1]
    rows, blocks = rows[whole], blocks[whole]
    view = _blocks(scores, maxima.shape[1])
    maxima[rows, blocks] = view[rows, blocks].amax(1)


def _best_keys(scores: Tensor, maxima: Tensor, first: int, k: int) -> Tensor:
    """int64 ``[B, ≤ k]``, descending: the sort keys of the k best places, which are numbered from ``first``."""
    width = scores.shape[1]
    blocks = maxima.shape[1]
    if blocks <= 2 * k:
        keys = _keys(scores, torch.arange(first, first + width, device=scores.device))
        return keys.topk(min(k, width), dim=1).values
    starts = _best_blocks(maxima, torch.arange(0, blocks * BLOCK, BLOCK, device=scores.device), k)
    inside = _blocks(scores, blocks).gather(1, (starts // BLOCK)[:, :, None].expand(-1, -1, BLOCK))
    part_maxima = inside.view(len(scores), -1, PART).amax(2)
    part_starts = (starts[:, :, None] + torch.arange(0, BLOCK, PART, device=scores.device)).flatten(1)
    starts = _best_blocks(part_maxima, part_starts, k)
    places = (starts[:, :, None] + torch.arange(PART, device=scores.device)).flatten(1)
    keys = _keys(scores.gather(1, places), places + first)
    tail = width - blocks * BLOCK
    if tail:
        tail_places = torch.arange(first + width - tail, first + width, device=scores.device)
        keys = torch.cat([keys, _keys(scores[:, -tail:], tail_places)], dim=1)
    return keys.topk(k, dim=1).values


def _best_blocks(maxima: Tensor, starts: Tensor, k: int) -> Tensor:
    """int64 ``[B, k]``: where the k blocks with the highest maxima ``[B, n]`` start, in no order.

    With equal maxima the earlier block wins, and all its items come before those of the later one: the rule for ties
    holds.
    """
    keys = _keys(maxima, starts).topk(k, dim=1, sorted=False).values
    return _LOW_BITS - (keys & _LOW_BITS)


def _keys(scores: Tensor, places: Tensor) -> Tensor:
    """int64 keys whose descending order is: higher score first, then lower place.

    The upper half holds the float's bits, turned so that integers sort as the floats do; the lower half the place,
    counted down. Adding zero makes -0.0 and 0.0 equal. A NaN sorts first, so that it is noticed.
    """
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) + (_LOW_BITS - places)


def _decode_scores(keys: Tensor) -> Tensor:
    ordered = (keys >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32)


def _concatenate(lists: list[Tensor], rows: int, device: torch.device) -> Tensor:
    return torch.cat(lists) if lists else torch.empty(rows, 0, dtype=torch.int64, device=device)
