"""From a generator of semantic ids to lists of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.contracts.generator import Generator
from recascade.contracts.retriever import TopK
from recascade.errors import ConfigurationError
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.beam_search import FoundIds, beam_search
from recascade.nn.prefix_trie import PrefixTrie
from recascade.nn.top_k import top_k_scores

Sharing = Literal["popularity", "split"]
Rescore = Callable[[Any, FoundIds], FoundIds]


class GenerativeRetriever:
    """Searches the ids with the highest probability and recommends their items.

    Where several items share an id, ``sharing="popularity"`` lists all of them in the id's place, the most popular
    first (our reading of GR4AD's "Label / Expand Index"), which is what one would serve; ``sharing="split"`` lets
    them share its probability, so that each of m items competes with log p - log m, in an order that knows nothing of
    popularity: the figure without help from anything but the generator.

    Args:
        generator: a ``Generator`` that is an ``nn.Module``; it runs in evaluation mode without gradients.
        codes: int64 ``[I, L]``, the ids of the items.
        popularity: ``[I]``, for ``sharing="popularity"`` and for requests without history.
        widths: beams kept after each level; the last one grows as far as a list needs it.
        sharing: see above.
        batch: requests searched together, those of similar length.
        rescore: gives what a search found other scores and their order, from the state of the requests; None keeps
            those of the search.

    Attributes:
        trie: the ids; put another one here (``insert``, ``delete``) to change what the next request may get. New items
            take numbers from I on.
    """

    def __init__(
        self,
        generator: Generator[Any],
        codes: Tensor,
        popularity: Tensor,
        widths: Sequence[int],
        *,
        sharing: Sharing = "popularity",
        batch: int = 64,
        rescore: Rescore | None = None,
    ) -> None:
        if len(widths) != len(generator.sizes):
            raise ConfigurationError(
                f"There are {len(widths)} beam widths for ids of {len(generator.sizes)} codes; give one per code."
            )
        self.generator = generator
        self.popularity = popularity
        self.widths = tuple(widths)
        self.sharing = sharing
        self.batch = batch
        self.rescore = rescore
        self.trie = PrefixTrie.build(codes, generator.sizes)

    @property
    def device(self) -> torch.device:
        """Where the generator lies, and wants its requests."""
        return next(cast(nn.Module, self.generator).parameters()).device

    @torch.inference_mode()
    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """The k best items of each request; see ``recascade.contracts.retriever.Retriever``."""
        if k < 1:
            raise ConfigurationError(f"A list needs at least one place, but k is {k}.")
        device = self.device
        items = torch.full((context.batch_size, k), -1, dtype=torch.int64, device=device)
        scores = torch.full((context.batch_size, k), -torch.inf, device=device)
        trie = self._trie_of(candidates)
        lengths = context.lengths
        unknown = (lengths == 0).nonzero()[:, 0]
        # Histories of about equal length together spare padding.
        order = torch.argsort(lengths, stable=True)[len(unknown) :]
        for start in range(0, len(order) if trie is not None else 0, self.batch):
            rows = order[start : start + self.batch]
            chosen = context.take(rows)
            spare = int(chosen.lengths.max()) if exclude_seen else 0
            found = self._search(chosen, cast(PrefixTrie, trie), k + spare)
            items[rows], scores[rows] = self._lists(found, cast(PrefixTrie, trie), k, chosen if exclude_seen else None)
        if len(unknown) and trie is not None:
            popularity = self.popularity.to(device, torch.float32)
            there = trie.holds(torch.arange(len(popularity), device=device)).nonzero()[:, 0]
            # One list for all of them.
            items[unknown], scores[unknown] = top_k_scores(popularity[None], k, candidates=there)
        return TopK(items, scores)

    def search(self, context: Context, places: int) -> FoundIds:
        """The best ids themselves, at least ``places`` places per request, so that ids can be measured beside items.

        Args:
            context: B requests, each with a history.
            places: more than the last beam width widens it.
        """
        return self._search(context, self.trie, places)

    @torch.inference_mode()
    def _search(self, context: Context, trie: PrefixTrie, places: int) -> FoundIds:
        widths = (*self.widths[:-1], max(self.widths[-1], places))
        with evaluation_mode(cast(nn.Module, self.generator)):
            state = self.generator.encode(context.last(self.generator.max_length))
            found = beam_search(self.generator, state, trie, widths)
            return found if self.rescore is None else self.rescore(state, found)

    def _trie_of(self, candidates: Tensor | None) -> PrefixTrie | None:
        """The ids of the candidates among the trie's items; None where there are none."""
        if self.trie.device != self.device:
            self.trie = self.trie.to(self.device)
        if candidates is None:
            return self.trie
        wanted = torch.unique(candidates.to(self.device))
        codes, items = self.trie.entries()
        chosen = torch.isin(items, wanted)
        return PrefixTrie.build(codes[chosen], self.trie.sizes, items[chosen]) if bool(chosen.any()) else None

    def _popularity_of(self, items: Tensor) -> Tensor:
        """``[m]``; 0 for items that came after the fit."""
        popularity = self.popularity.to(items.device)
        known = items < len(popularity)
        return popularity[items.clamp(max=len(popularity) - 1)] * known

    def _lists(self, found: FoundIds, trie: PrefixTrie, k: int, seen: Context | None) -> tuple[Tensor, Tensor]:
        """Items int64 and scores float32, both ``[b, k]``, of the ids that were found."""
        batch, width = found.leaves.shape
        places, items = trie.items_of(found.leaves.flatten())
        scores = found.log_probs.flatten()[places].float()
        if self.sharing == "split":
            scores = scores - torch.bincount(places)[places].log()
        else:
            # Stable sorts from the last criterion to the first: popularity within an id, then the id's place.
            order = torch.argsort(self._popularity_of(items), descending=True, stable=True)
            order = order[torch.argsort(places[order], stable=True)]
            places, items, scores = places[order], items[order], scores[order]
        order = torch.argsort(scores, descending=True, stable=True)
        order = order[torch.argsort(places[order] // width, stable=True)]
        rows, items, scores = places[order] // width, items[order], scores[order]
        if seen is not None:
            count = max(len(self.popularity), len(trie.places))
            fresh = ~torch.isin(rows * count + items, seen.rows * count + seen.items)
            rows, items, scores = rows[fresh], items[fresh], scores[fresh]
        lengths = torch.bincount(rows, minlength=batch)
        column = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[rows]
        kept = column < k
        listed = torch.full((batch, k), -1, dtype=torch.int64, device=rows.device)
        listed_scores = torch.full((batch, k), -torch.inf, device=rows.device)
        listed[rows[kept], column[kept]] = items[kept]
        listed_scores[rows[kept], column[kept]] = scores[kept]
        return listed, listed_scores
