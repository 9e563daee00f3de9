"""What a cascade says about one request: the list, what each stage made of it, and how long that took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recascade.cascade.stage_worker import Problem
from recascade.contracts.retriever import TopK


@dataclass(frozen=True)
class StageAnswer:
    """One stage's part.

    Attributes:
        slot: ``retriever``, ``ranker`` or ``reranker``.
        name: method and version.
        problem: why something else stands in for the stage, or ``shortened`` where it read a part of the history only;
            empty where it did its work.
        seconds: until its result, or until it was given up.
        best: the list after it, one row.
    """

    slot: str
    name: str
    problem: Problem
    seconds: float
    best: TopK

    def degraded(self) -> dict[str, str]:
        """For JSON: what is missing and why."""
        return {"stage": self.slot, "problem": self.problem}


@dataclass(frozen=True)
class Answer:
    """The whole of it.

    Attributes:
        stages: of the cascade, in their order.
        seconds: from the request to the list.
    """

    stages: tuple[StageAnswer, ...]
    seconds: float

    def items(self, k: int) -> list[int]:
        """The first ``k`` items of the list, fewer where there are fewer."""
        chosen: list[int] = self.stages[-1].best.items[0, :k].tolist()
        return [item for item in chosen if item >= 0]

    @property
    def degraded(self) -> list[dict[str, str]]:
        """The stages that something else stands in for."""
        return [stage.degraded() for stage in self.stages if stage.problem]

    @property
    def milliseconds(self) -> dict[str, float]:
        """By stage, and of the whole."""
        each = {stage.slot: round(1000 * stage.seconds, 3) for stage in self.stages}
        return {**each, "total": round(1000 * self.seconds, 3)}

    @property
    def versions(self) -> dict[str, Any]:
        """Slot → method and version."""
        return {stage.slot: stage.name for stage in self.stages}
