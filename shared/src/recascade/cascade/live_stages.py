"""The stages that answer, replaceable one at a time while they answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from recascade.cascade.cascade import RerankingStage
from recascade.cascade.config import Member
from recascade.cascade.fit import FittedCascade
from recascade.contracts.hinted_ranker import HintedRanker
from recascade.contracts.ranker import Ranker
from recascade.contracts.retriever import Retriever

SLOTS = ("retriever", "ranker", "reranker")
Kind_co = TypeVar("Kind_co", covariant=True)


@dataclass(frozen=True)
class Live(Generic[Kind_co]):
    """One stage at work.

    Attributes:
        stage: what computes.
        label: the method, with its variant.
        version: of the fit.
    """

    stage: Kind_co
    label: str
    version: str


@dataclass(frozen=True)
class LiveStages:
    """What answers one request from beginning to end: a swap makes a new one of these, and never changes one.

    Attributes:
        retriever: finds candidates.
        retrieved: how many.
        ranker: scores them, perhaps on a hint, or None.
        ranker_weight: of its scores against the retriever's order; goes with the ranker.
        reranker: orders the head of the list, or None.
    """

    retriever: Live[Retriever]
    retrieved: int
    ranker: Live[Ranker | HintedRanker] | None = None
    ranker_weight: float = 1.0
    reranker: Live[RerankingStage] | None = None

    @classmethod
    def of(cls, fitted: FittedCascade, members: Iterable[Member], items: int, budget: float) -> LiveStages:
        """The stages of a trained cascade, put to work.

        Args:
            fitted: the stages.
            members: the methods that they are of.
            items: size of the catalogue.
            budget: seconds that the ranker may take.
        """
        cascade = fitted.cascade
        stages: dict[str, Any] = {
            "retriever": cascade.retriever,
            "ranker": cascade.ranker,
            "reranker": cascade.reranking,
        }
        for member in members:
            if member.method.live:
                stages[member.slot] = member.method.live_ranker(stages[member.slot], items, budget)
        live = {each.slot: Live(stages[each.slot], each.label, each.version) for each in fitted.stages}
        return cls(retrieved=cascade.retrieved, ranker_weight=cascade.ranker_weight, **live)

    def swapped(self, slot: str, other: LiveStages) -> LiveStages:
        """The same stages, with that of ``slot`` taken from another cascade."""
        weight = other.ranker_weight if slot == "ranker" else self.ranker_weight
        return replace(self, ranker_weight=weight, **{slot: getattr(other, slot)})

    def close(self, slots: Iterable[str] = SLOTS) -> None:
        """Stop what works in threads of its own."""
        for slot in slots:
            live = getattr(self, slot)
            if live is not None and isinstance(live.stage, HintedRanker):
                live.stage.close()

    @property
    def versions(self) -> dict[str, str]:
        """Slot → method and version, of the stages that are there."""
        present = {slot: getattr(self, slot) for slot in SLOTS}
        return {slot: f"{live.label} {live.version}" for slot, live in present.items() if live is not None}
