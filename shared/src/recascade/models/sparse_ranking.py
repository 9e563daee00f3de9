"""Lists from sparse scores: histories as sparse rows, and popularity where a table has nothing to say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.nn.top_k import refuse_impossible_candidates, top_k_scores

# Dense scores held at once: 2^23 float32 are 32 MB.
SCORES_AT_ONCE = 1 << 23


def history_rows(context: Context, items: int, *, decay: float = 1.0) -> sparse.csr_matrix:
    """float32 ``[B, I]``: per item the sum over its events of ``decay`` to the power of their age (the newest has
    0)."""
    lengths = context.lengths
    offsets = context.offsets.cpu().numpy()
    last = torch.repeat_interleave(context.offsets[1:] - 1, lengths).cpu().numpy()
    ages = last - np.arange(len(last))
    weights = np.power(np.float32(decay), ages, dtype=np.float32)
    rows = sparse.csr_matrix((weights, context.items.cpu().numpy(), offsets), shape=(context.batch_size, items))
    rows.sum_duplicates()
    return rows


def popularity_fill(counts: NDArray[np.int64]) -> Tensor:
    """float32 ``[I]`` in [-1, 0), in the order of popularity, so that they follow every positive score."""
    places = np.empty(len(counts), dtype=np.float32)
    places[np.argsort(-counts, kind="stable")] = np.arange(1, len(counts) + 1, dtype=np.float32)
    return torch.from_numpy(-places / max(len(counts), 1))


def rank_sparse(
    scores: sparse.csr_matrix,
    fill: Tensor,
    k: int,
    context: Context,
    *,
    exclude_seen: bool = False,
    candidates: Tensor | None = None,
    ties: Tensor | None = None,
) -> TopK:
    """The k best items of each row: those with a positive score first, then the others in the order of ``fill``.

    Args:
        scores: ``[B, I]``, no negative entries.
        fill: float32 ``[I]``, negative.
        k: list length.
        context: the requests the rows belong to; the lists go to its device.
        exclude_seen: leave out the items of each request's own history.
        candidates: int64 ``[C]``, rank only these items.
        ties: int64 ``[I]`` on the CPU, all items in the order in which equal scores stand; None for that of the
            indices.

    Raises:
        DataError: a candidate is no item.
    """
    items = scores.shape[1]
    device = context.offsets.device
    if ties is not None:
        # Of equal scores the lower index stands first, so items are numbered by their places in that order.
        places = torch.empty_like(ties).index_copy_(0, ties, torch.arange(items))
        numbered = sparse.csr_matrix(
            (scores.data, places.numpy()[scores.indices], scores.indptr), shape=scores.shape, copy=False
        )
        if candidates is not None:
            refuse_impossible_candidates(candidates, items)
            candidates = places[candidates.cpu()]
        seen_places = replace(context, items=places[context.items.cpu()].to(device))
        found = rank_sparse(numbered, fill[ties], k, seen_places, exclude_seen=exclude_seen, candidates=candidates)
        named = ties.to(device)[found.items.clamp(min=0)].masked_fill(found.items < 0, -1)
        return TopK(named, found.scores)
    rows_at_once = max(1, SCORES_AT_ONCE // max(items, 1))
    lists = []
    for start in range(0, context.batch_size, rows_at_once):
        stop = min(start + rows_at_once, context.batch_size)
        part = scores[start:stop].tocoo()
        dense = fill.repeat(stop - start, 1)
        rows, columns = torch.from_numpy(part.row.astype(np.int64)), torch.from_numpy(part.col.astype(np.int64))
        dense[rows, columns] = torch.from_numpy(part.data.astype(np.float32))
        seen = context.between(start, stop).to("cpu") if exclude_seen else None
        chosen = candidates.cpu() if candidates is not None else None
        lists.append(top_k_scores(dense, k, seen=seen, candidates=chosen))
    if not lists:
        return top_k_scores(fill.repeat(0, 1).to(device), k)
    found = TopK(torch.cat([part.items for part in lists]), torch.cat([part.scores for part in lists]))
    return TopK(found.items.to(device), found.scores.to(device))
