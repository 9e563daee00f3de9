from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_stages import ToyRanker, ToyRetriever, toy_stages

from recascade.cascade.answer import Answer
from recascade.cascade.cascade import Cascade, in_order_of
from recascade.cascade.live_stages import Live, LiveStages
from recascade.cascade.pipeline import Pipeline
from recascade.cascade.serve_config import ServeConfig
from recascade.contracts.context import Context
from recascade.contracts.hinted_ranker import Scored
from recascade.contracts.retriever import TopK
from recascade.models.popularity import Popularity

ITEMS = 50
POPULAR = list(range(ITEMS - 1, -1, -1))


def one_request() -> Context:
    return Context(torch.tensor([0]), torch.tensor([3, 4]), torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2]))


@contextmanager
def pipeline(**deadlines: float) -> Iterator[Pipeline]:
    patient = {"retriever_deadline": 10_000.0, "ranker_deadline": 10_000.0, "reranker_deadline": 10_000.0}
    made = Pipeline(Popularity(torch.arange(ITEMS)), ITEMS, ServeConfig(**{**patient, **deadlines}))
    yield made
    made.close()


def answered(stages: LiveStages, k: int, **deadlines: float) -> Answer:
    with pipeline(**deadlines) as line:
        return line.answer(stages, one_request(), k)


def stage(stages: LiveStages, slot: str) -> Any:
    found = getattr(stages, slot).stage
    return found.reranker if slot == "reranker" else found


def test_stages_in_line_give_what_the_cascade_gives() -> None:
    stages = toy_stages(ITEMS)
    assert stages.ranker is not None and stages.reranker is not None
    cascade = Cascade(stages.retriever.stage, 20, stages.ranker.stage, reranking=stages.reranker.stage)
    answer = answered(stages, 12)
    assert answer.items(12) == cascade.retrieve(one_request(), 12).items[0].tolist()
    assert answer.items(12) == [*range(10, 20), 9, 8], "the ten best backwards, the rest of the ranker's list behind"
    assert answer.degraded == []


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_a_ranker_that_has_not_all_the_say_has_as_much_in_service(weight: float) -> None:
    stages = replace(toy_stages(ITEMS), ranker_weight=weight)
    assert stages.ranker is not None and stages.reranker is not None
    cascade = Cascade(stages.retriever.stage, 20, stages.ranker.stage, weight, stages.reranker.stage)
    expected = cascade.retrieve(one_request(), 12).items[0].tolist()
    assert answered(stages, 12).items(12) == expected
    hinted, _ = hinted_stages()
    with pipeline() as line:
        assert line.answer(replace(hinted, ranker_weight=weight), one_request(), 12, "somebody").items(12) == expected


def test_a_weight_goes_with_its_ranker() -> None:
    stages, other = toy_stages(ITEMS), replace(toy_stages(ITEMS), ranker_weight=0.4)
    assert stages.swapped("ranker", other).ranker_weight == 0.4
    assert stages.swapped("retriever", other).ranker_weight == stages.ranker_weight == 1.0


@pytest.mark.parametrize(("fault", "problem"), [("killed", "failed"), ("slow", "late"), ("nonsense", "invalid")])
@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        # The toy ranker orders whatever comes by number, so the popular items come out as they went in.
        ("retriever", [*range(40, 50), 39, 38]),
        ("ranker", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10, 11]),
        ("reranker", [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8]),
    ],
)
def test_a_stage_that_goes_wrong_is_stood_in_for_and_named(
    slot: str, fault: Any, problem: str, expected: list[int]
) -> None:
    stages = toy_stages(ITEMS)
    stage(stages, slot).fault = fault
    deadline = 100.0 if fault == "slow" else 10_000.0
    answer = answered(stages, 12, **{f"{slot}_deadline": deadline})
    assert answer.items(12) == expected
    assert answer.degraded == [{"stage": slot, "problem": problem}]


def test_everything_wrong_at_once_still_gives_the_popular_items() -> None:
    stages = toy_stages(ITEMS)
    for slot in ("retriever", "ranker", "reranker"):
        stage(stages, slot).fault = "killed"
    answer = answered(stages, 10)
    assert answer.items(10) == POPULAR[:10]
    assert [each["stage"] for each in answer.degraded] == ["retriever", "ranker", "reranker"]


def test_the_batch_does_not_change_a_list() -> None:
    stages = toy_stages(ITEMS)
    assert stages.ranker is not None and stages.reranker is not None
    cascade = Cascade(ToyRetriever(ITEMS), 20, ToyRanker(), reranking=stages.reranker.stage)
    several = Context(torch.tensor([0, 1, 2]), torch.arange(3), torch.zeros(3, dtype=torch.int64), torch.arange(4))
    together = cascade.retrieve(several, 10)
    for row in range(3):
        assert torch.equal(together.items[row], cascade.retrieve(several.between(row, row + 1), 10).items[0])


class Hinted(ToyRanker):
    """Ranks by item number, and notes what it was told and when."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.whole = True
        self.ready = threading.Event()

    def hint(self, user: str, context: Context, candidates: int) -> str:
        self.suffer()
        self.told.append(f"hint {user} {candidates}")
        self.ready.set()
        return "ticket"

    def rank(self, user: str, context: Context, items: Tensor, ticket: str | None, budget: float) -> Scored:
        self.told.append(f"rank {user} {ticket}")
        return Scored(items.float(), self.whole)

    def close(self) -> None:
        self.told.append("closed")


@dataclass
class Patient(ToyRetriever):
    """Retrieves when the ranker has had its hint."""

    ranker: Hinted | None = None

    def retrieve(self, context: Context, k: int, **how: Any) -> TopK:
        assert self.ranker is not None and self.ranker.ready.wait(10)
        return super().retrieve(context, k, **how)


def hinted_stages() -> tuple[LiveStages, Hinted]:
    ranker = Hinted()
    stages = toy_stages(ITEMS)
    return replace(
        stages, retriever=Live(Patient(ITEMS, ranker=ranker), "toy", "1"), ranker=Live(ranker, "toy", "1")
    ), ranker


def test_a_hint_comes_before_the_candidates_and_its_ticket_with_them() -> None:
    stages, ranker = hinted_stages()
    with pipeline() as line:
        answer = line.answer(stages, one_request(), 12, "somebody")
    assert ranker.told == ["hint somebody 20", "rank somebody ticket"]
    assert answer.items(12) == answered(toy_stages(ITEMS), 12).items(12)
    assert answer.degraded == []


def test_a_ranker_that_read_a_part_of_the_history_is_named_and_its_order_kept() -> None:
    stages, ranker = hinted_stages()
    ranker.whole = False
    with pipeline() as line:
        answer = line.answer(stages, one_request(), 12, "somebody")
    assert answer.items(12) == answered(toy_stages(ITEMS), 12).items(12)
    assert answer.degraded == [{"stage": "ranker", "problem": "shortened"}]


def test_a_hint_that_fails_and_a_request_of_nobody_are_ranked_without() -> None:
    stages, ranker = hinted_stages()
    ranker.ready.set()
    ranker.fault = "killed"
    with pipeline() as line:
        for user in ("somebody", ""):
            assert line.answer(stages, one_request(), 12, user).degraded == []
    assert ranker.told == ["rank somebody None", "rank  None"]


def test_a_short_list_keeps_its_empty_places_behind() -> None:
    best = TopK(torch.tensor([[4, 2, -1, -1]]), torch.tensor([[2.0, 1.0, -torch.inf, -torch.inf]]))
    ordered = in_order_of(torch.tensor([[-5.0, -4.0, 9.0, 9.0]]), best)
    assert ordered.items.tolist() == [[2, 4, -1, -1]]


def test_items_that_a_ranker_cannot_score_come_after_those_it_can_in_their_order() -> None:
    best = TopK(torch.tensor([[4, 2, 9, 7]]), torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    ordered = in_order_of(torch.tensor([[-torch.inf, -4.0, -torch.inf, 9.0]]), best)
    assert ordered.items.tolist() == [[7, 2, 4, 9]]
