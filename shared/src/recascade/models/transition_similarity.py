"""Everyone gets items that are near their last one in the graph of transitions and like it in content. Nothing is
trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit
from recascade.errors import ConfigurationError, did_you_mean
from recascade.models.item_content import content_vectors
from recascade.models.item_pairs import followed_by
from recascade.models.sparse_ranking import SCORES_AT_ONCE, history_rows, popularity_fill
from recascade.nn.top_k import top_k_scores


class Portion(NamedTuple):
    """``places`` of each round of the list go to items at exactly ``ring`` transitions from the event of age
    ``age``."""

    age: int
    ring: int
    places: int


# The budgets of the paper's release for lists of ten: around the last item, and around the last two.
PLANS = {
    "last": (Portion(0, 1, 7), Portion(0, 2, 2), Portion(0, 3, 1)),
    "last-two": (Portion(0, 1, 5), Portion(0, 2, 1), Portion(1, 1, 3), Portion(1, 2, 1)),
}


class TransitionSimilarity:
    """The transition-graph heuristic of Han et al., 2026 (arXiv 2605.07125), with other item vectors.

    From the paper and its release: the directed graph of training transitions; rings of items at exactly 1, 2, 3 steps
    from the last item (or 1, 2 from each of the last two); within a ring the order of cosine similarity to the ring's
    source, in the first ring plus ``edge_weight`` · log(1 + transitions) / the source's largest such value; fixed
    places per ring in a list of ten (7, 2, 1, or 5, 1 and 3, 1).

    Ours: TF-IDF of texts and categories instead of vectors of a language model, so that nothing is downloaded; longer
        lists
    repeat the places in rounds; where a ring has no item left the list closes up (the release takes more from earlier
    rings and then random items) and ends with the most similar items of the catalogue, then the popular ones.
    """

    def __init__(
        self,
        transitions: sparse.csr_matrix,
        content: sparse.csr_matrix,
        counts: NDArray[np.int64],
        *,
        sources: str = "last",
        edge_weight: float = 0.5,
    ) -> None:
        """Keep the graph and the vectors.

        Args:
            transitions: ``[I, I]``, how often column followed row.
            content: float32 ``[I, terms]``, rows of length 1, or empty.
            counts: int64 ``[I]``, training events per item.
            sources: a key of ``PLANS``.
            edge_weight: weight of the transition counts in the first ring.
        """
        if sources not in PLANS:
            raise ConfigurationError(f"model.sources is {sources!r}.{did_you_mean(sources, PLANS)}")
        self.plan = PLANS[sources]
        self.content = content
        self.fill = popularity_fill(counts)
        self.edge_weight = edge_weight
        self.graph = transitions.copy()
        self.graph.setdiag(0)
        self.graph.eliminate_zeros()
        self.edges = self.graph.copy()
        self.edges.data = np.log1p(self.edges.data)
        largest = np.repeat(self.edges.max(axis=1).toarray().ravel(), np.diff(self.edges.indptr))
        self.edges.data /= largest
        self.graph.data[:] = 1.0

    @classmethod
    def fit(
        cls,
        data: EncodedSplit,
        texts: Sequence[str | None] | pl.Series | None = None,
        *,
        sources: str = "last",
        edge_weight: float = 0.5,
    ) -> Self:
        """Count transitions and weigh terms; ``texts`` are those of the items in the order of the vocabulary."""
        content = content_vectors(data, texts)
        return cls(followed_by(data), content, data.item_counts, sources=sources, edge_weight=edge_weight)

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``; scores say the place only: 0 for the first, -1 for the
        next."""
        device = context.offsets.device
        context = context.to("cpu")
        candidates = None if candidates is None else candidates.cpu()
        rows_at_once = max(1, SCORES_AT_ONCE // max(len(self.fill), 1))
        lists = [
            self._lists(part, k, part if exclude_seen else None, candidates)
            for start in range(0, context.batch_size, rows_at_once)
            for part in [context.between(start, min(start + rows_at_once, context.batch_size))]
        ]
        items = torch.cat(lists) if lists else torch.empty(0, k, dtype=torch.int64)
        scores = -torch.arange(k, dtype=torch.float32).repeat(len(items), 1)
        return TopK(items.to(device), scores.masked_fill(items < 0, -torch.inf).to(device))

    def _lists(self, context: Context, k: int, seen: Context | None, candidates: Tensor | None) -> Tensor:
        """int64 ``[B, k]``: the portions' items in the order of the plan, without repetition."""
        columns: list[Tensor] = []
        priorities: list[tuple[int, int, int]] = []
        similarities: dict[int, Tensor] = {}
        for age in sorted({portion.age for portion in self.plan}):
            source = _source(context, len(self.fill), age)
            similarities[age] = self._similarity(source)
            rings = self._rings(source, max(portion.ring for portion in self.plan if portion.age == age))
            bonus = torch.from_numpy((source @ self.edges).toarray()).mul_(self.edge_weight)
            for number, portion in enumerate(self.plan):
                if portion.age != age:
                    continue
                likeness = similarities[age] + bonus if portion.ring == 1 else similarities[age]
                scores = likeness.masked_fill(rings != portion.ring, -torch.inf)
                columns.append(top_k_scores(scores, k, seen=seen, candidates=candidates).items)
                priorities += [(place // portion.places, number, place) for place in range(k)]
        similarity = similarities[0]
        rest = torch.where(similarity > 0, similarity, self.fill)
        columns.append(top_k_scores(rest, k, seen=seen, candidates=candidates).items)
        priorities += [(k, 0, place) for place in range(k)]
        order = sorted(range(len(priorities)), key=priorities.__getitem__)
        return _first_distinct(torch.cat(columns, dim=1)[:, order], k)

    def _similarity(self, source: sparse.csr_matrix) -> Tensor:
        """float32 ``[B, I]``: cosine of each item to the row's source; 0 without one."""
        return torch.from_numpy((source @ self.content @ self.content.T).toarray().astype(np.float32, copy=False))

    def _rings(self, source: sparse.csr_matrix, farthest: int) -> Tensor:
        """int8 ``[B, I]``: the fewest steps from the row's source to the item, 0 beyond ``farthest`` and for the
        source."""
        steps = [source]
        for _ in range(farthest):
            steps.append(steps[-1] @ self.graph)
        rings = np.zeros(source.shape, dtype=np.int8)
        for ring in range(farthest, -1, -1):
            reached = steps[ring].tocoo()
            rings[reached.row, reached.col] = ring
        return torch.from_numpy(rings)


def _source(context: Context, items: int, age: int) -> sparse.csr_matrix:
    """float32 ``[B, I]``: 1 at the event of the given age (0: the newest), an empty row where the history is
    shorter."""
    places = context.offsets[1:] - 1 - age
    long_enough = context.lengths > age
    offsets = torch.nn.functional.pad(long_enough.cumsum(0), (1, 0))
    kept = places[long_enough]
    return history_rows(Context(context.users, context.items[kept], context.timestamps[kept], offsets), items)


def _first_distinct(items: Tensor, k: int) -> Tensor:
    """int64 ``[B, k]``: the first k distinct items of each row of ``items`` ``[B, n]``, -1 left out and filling up."""
    ordered, places = items.sort(dim=1, stable=True)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    dropped = torch.zeros_like(repeated).scatter(1, places, repeated | (ordered < 0))
    first = dropped.int().argsort(dim=1, stable=True)[:, :k]
    return items.gather(1, first).masked_fill(dropped.gather(1, first), -1)
