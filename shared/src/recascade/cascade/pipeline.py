"""One request through the live stages: every stage has its deadline, and something that stands in for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from threading import Event
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from recascade.cascade.answer import Answer, StageAnswer
from recascade.cascade.cascade import in_order_of, rank_with, rerank_with, retrieve_with
from recascade.cascade.live_stages import SLOTS, Live, LiveStages
from recascade.cascade.new_items import NewItems
from recascade.cascade.serve_config import ServeConfig
from recascade.cascade.stage_worker import Outcome, StageWorker
from recascade.contracts.context import Context
from recascade.contracts.hinted_ranker import HintedRanker
from recascade.contracts.ranker import Ranker
from recascade.contracts.retriever import Retriever, TopK


class Pipeline:
    """Asks the stages one after the other.

    A stage that is late, fails, is busy or returns something that is no list of distinct items of the catalogue is
    stood in for: the retriever by the most popular items, the others by the order before them.

    Args:
        popular: the retriever that stands in; it must be quick and safe, for it has no deadline.
        items: size of the catalogue.
        config: deadlines, threads.
        candidates: int64 ``[C]``, the only items to recommend; None for the whole catalogue.
    """

    def __init__(self, popular: Retriever, items: int, config: ServeConfig, candidates: Tensor | None = None) -> None:
        self._popular = popular
        self._items = items
        self._config = config
        self._candidates = candidates
        self._workers = {slot: StageWorker(slot, config.workers, config.waiting) for slot in SLOTS}
        self._deadlines: Mapping[str, float] = {
            "retriever": config.retriever_deadline / 1000,
            "ranker": config.ranker_deadline / 1000,
            "reranker": config.reranker_deadline / 1000,
        }

    @torch.inference_mode()
    def answer(
        self, stages: LiveStages, context: Context, k: int, user: str = "", new: NewItems | None = None
    ) -> Answer:
        """The list of one request, as these stages make it; k items where the catalogue has as many.

        A ranker that wants a hint gets it before the candidates are looked for.

        Args:
            stages: that answer.
            context: one request.
            k: length of the list.
            user: identifier; empty for nobody in particular.
            new: items that came after training; None for none.
        """
        begin = perf_counter()
        new = new or NewItems(self._items)
        excluded = context.items if self._config.exclude_seen else context.items[:0]
        context = replace(context, items=new.known(context.items))
        count = max(k, stages.retrieved)
        hint = None if stages.ranker is None else self._hint(stages.ranker.stage, user, context, count)
        retrieved = self._retrieve(stages.retriever, context, count)
        found = [replace(retrieved, best=new.beside_twins(retrieved.best, excluded))]
        if stages.ranker is not None:
            best = found[-1].best
            known, weight = new.known(best.items), stages.ranker_weight
            found.append(self._rank(stages.ranker, weight, context, best, known, user, hint))
        if stages.reranker is not None:
            best = found[-1].best
            rerank = partial(rerank_with, stages.reranker.stage, context, best, new.known(best.items))
            found.append(self._improve("reranker", stages.reranker, best, rerank))
        return Answer(tuple(found), perf_counter() - begin)

    def close(self) -> None:
        """Let go of the threads."""
        for worker in self._workers.values():
            worker.close()

    def _hint(self, ranker: Ranker | HintedRanker, user: str, context: Context, count: int) -> Future[Any] | None:
        if not (user and isinstance(ranker, HintedRanker)):
            return None
        try:
            return self._workers["ranker"].start(lambda: ranker.hint(user, context, count))
        except RuntimeError:
            return None

    def _retrieve(self, live: Live[Retriever], context: Context, count: int) -> StageAnswer:
        def retrieve(retriever: Retriever) -> TopK:
            seen = bool(self._config.exclude_seen)
            return retrieve_with(retriever, context, count, exclude_seen=seen, candidates=self._candidates)

        outcome = self._checked("retriever", partial(retrieve, live.stage), None)
        best = retrieve(self._popular) if outcome.value is None else outcome.value
        return StageAnswer("retriever", _name(live), outcome.problem, outcome.seconds, best)

    def _rank(
        self,
        live: Live[Ranker | HintedRanker],
        weight: float,
        context: Context,
        best: TopK,
        taken_for: Tensor,
        user: str,
        hint: Future[Any] | None,
    ) -> StageAnswer:
        ranker = live.stage
        if not isinstance(ranker, HintedRanker):
            return self._improve("ranker", live, best, partial(rank_with, ranker, context, best, weight, taken_for))
        shortened = Event()

        def rank() -> TopK:
            scored = ranker.rank(user, context, taken_for, _ticket(hint), self._deadlines["ranker"])
            if not scored.whole:
                shortened.set()
            return in_order_of(scored.scores.float(), best, weight)

        answer = self._improve("ranker", live, best, rank)
        return replace(answer, problem="shortened") if shortened.is_set() and not answer.problem else answer

    def _improve(self, slot: str, live: Live[object], before: TopK, improve: Callable[[], TopK]) -> StageAnswer:
        outcome = self._checked(slot, improve, before)
        best = before if outcome.value is None else outcome.value
        return StageAnswer(slot, _name(live), outcome.problem, outcome.seconds, best)

    def _checked(self, slot: str, function: Callable[[], TopK], before: TopK | None) -> Outcome[TopK]:
        outcome = self._workers[slot].call(torch.inference_mode()(function), self._deadlines[slot])
        if outcome.value is None or self._is_valid(outcome.value, before):
            return outcome
        return Outcome(None, "invalid", outcome.seconds)

    def _is_valid(self, best: TopK, before: TopK | None) -> bool:
        """One row of distinct items of the catalogue, -1 behind them, no score NaN; the same items as before."""
        items = best.items[0]
        real = items[items >= 0]
        ordered = real.sort().values
        sound = (
            best.items.shape == best.scores.shape
            and len(real) > 0
            and bool((items[: len(real)] >= 0).all())
            and (before is not None or int(ordered[-1]) < self._items)
            and not bool((ordered[1:] == ordered[:-1]).any())
            and not bool(best.scores.isnan().any())
        )
        return sound and (before is None or torch.equal(ordered, before.items[0][before.items[0] >= 0].sort().values))


def _ticket(hint: Future[Any] | None) -> Any:
    """What the hint gave. One that is not there yet, or failed, is none; ranking neither waits for it nor fails with
    it."""
    heard = hint is not None and hint.done() and not hint.cancelled() and hint.exception() is None
    return hint.result() if hint is not None and heard else None


def _name(live: Live[object]) -> str:
    return f"{live.label} {live.version}"
