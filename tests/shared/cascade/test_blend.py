"""Scores and places weighed against each other, and the weight that validation chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recascade.cascade.blend import blended
from recascade.cascade.cascade import in_order_of
from recascade.cascade.weigh import best_weight
from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import cached_split
from recascade.data.split_config import SplitConfig
from recascade.training.config import TrainerConfig

ITEMS = torch.tensor([[7, 3, 9, 1, 4]])
BEST = TopK(ITEMS, torch.arange(5, 0, -1, dtype=torch.float32)[None])


def test_a_weight_of_one_is_the_rankers_order_and_of_nought_the_retrievers() -> None:
    scores = torch.tensor([[0.1, 0.5, -2.0, 0.9, 0.3]])
    assert in_order_of(scores, BEST, 1.0).items.tolist() == [[1, 3, 4, 7, 9]]
    assert in_order_of(scores, BEST, 0.0).items.tolist() == ITEMS.tolist()
    assert in_order_of(blended(scores, ITEMS, 1.0), BEST).items.tolist() == [[1, 3, 4, 7, 9]]


def test_the_sum_is_that_of_standardised_scores_and_places() -> None:
    scores = torch.tensor([[4.0, 1.0, 1.0, 2.0, 7.0]])
    places = -np.log(np.arange(1, 6))
    expected = 0.25 * (scores.numpy()[0] - scores.mean().item()) / scores.numpy().std()
    expected += 0.75 * (places - places.mean()) / places.std()
    np.testing.assert_allclose(blended(scores, ITEMS, 0.25).numpy()[0], expected, rtol=1e-5)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=5, max_size=5),
    st.floats(0.01, 100),
    st.floats(-100, 100),
    st.floats(0, 1),
)
def test_the_rankers_scale_does_not_matter(values: list[float], scale: float, shift: float, weight: float) -> None:
    scores = torch.tensor([values], dtype=torch.float64)
    if len(set(values)) > 1 and scores.std() < 1e-3:
        return
    moved = blended(scores * scale + shift, ITEMS, weight)
    torch.testing.assert_close(moved, blended(scores, ITEMS, weight), atol=1e-6, rtol=1e-6)


def test_equal_scores_say_nothing() -> None:
    assert in_order_of(torch.full((1, 5), 3.0), BEST, 0.9).items.tolist() == ITEMS.tolist()


def test_empty_places_and_items_that_the_ranker_cannot_score_stay_behind_and_count_nowhere() -> None:
    items = torch.tensor([[7, 3, 9, -1], [7, 3, 9, 5]])
    scores = torch.tensor([[1.0, 3.0, 2.0, 99.0], [1.0, 3.0, 2.0, -torch.inf]])
    mixed = blended(scores, items, 0.6)
    assert torch.isneginf(mixed[:, 3]).all()
    torch.testing.assert_close(mixed[:, :3], blended(scores[:, :3], items[:, :3], 0.6))
    ordered = in_order_of(scores, TopK(items, torch.zeros(2, 4)), 0.6)
    assert ordered.items[:, 3].tolist() == [-1, 5]


def test_a_score_that_is_not_a_number_is_not_hidden() -> None:
    scores = torch.tensor([[1.0, torch.nan, 2.0, 0.0, 1.0]])
    assert in_order_of(scores, BEST, 0.5).scores.isnan().any()


class Places:
    """Every user's next item at the place that ``places`` says, 20 items in all."""

    def __init__(self, answers: dict[int, int], places: dict[int, int], items: int) -> None:
        self.answers, self.places, self.items = answers, places, items

    def order(self, user: int) -> list[int]:
        others = [item for item in range(self.items) if item != self.answers[user]]
        others.insert(self.places[user], self.answers[user])
        return others

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        rows = torch.tensor([self.order(user)[:k] for user in context.users.tolist()])
        return TopK(rows, -torch.arange(rows.shape[1], dtype=torch.float32).expand(rows.shape))

    def score(self, context: Context, items: Tensor) -> Tensor:
        orders = [self.order(user) for user in context.users.tolist()]
        return torch.tensor(
            [[-float(order.index(item)) for item in row] for order, row in zip(orders, items.tolist(), strict=True)]
        )


@pytest.fixture
def split(home: Path, log: Path) -> EncodedSplit:
    return encode(cached_split(Dataset.open(log), SplitConfig()))


def chosen(data: EncodedSplit, retriever: Places, ranker: Places, **changed: object) -> float:
    trainer = TrainerConfig(monitor="mrr@10")
    return best_weight(retriever, ranker, data, trainer, retrieved=20, exclude_seen=False, seed=0)


def stages(data: EncodedSplit, retriever_place: int, ranker_place: int) -> tuple[Places, Places]:
    answers = dict(zip(data.validation.users.tolist(), data.validation.target_items.tolist(), strict=True))
    items = len(data.items)
    return (
        Places(answers, dict.fromkeys(answers, retriever_place), items),
        Places(answers, dict.fromkeys(answers, ranker_place), items),
    )


def test_whoever_knows_gets_the_weight(split: EncodedSplit) -> None:
    assert chosen(split, *stages(split, 9, 0)) == 1.0
    assert chosen(split, *stages(split, 0, 9)) < 0.5


def test_two_that_err_differently_are_mixed(split: EncodedSplit) -> None:
    """Each finds half of the users' items at the first place, and those of the other half at the third."""
    retriever, ranker = stages(split, 0, 0)
    for user in retriever.answers:
        (retriever if user % 2 else ranker).places[user] = 2
    assert 0.0 < chosen(split, retriever, ranker) < 1.0


def test_the_test_part_has_no_say(split: EncodedSplit) -> None:
    retriever, ranker = stages(split, 9, 0)
    wrong = replace(split.test, target_items=np.zeros_like(split.test.target_items))
    assert chosen(replace(split, test=wrong), retriever, ranker) == chosen(split, retriever, ranker) == 1.0


def test_without_validation_users_the_ranker_has_its_way(split: EncodedSplit) -> None:
    nobody = replace(
        split.validation,
        users=split.validation.users[:0],
        history_ends=split.validation.history_ends[:0],
        target_offsets=split.validation.target_offsets[:1],
        target_items=split.validation.target_items[:0],
        target_timestamps=split.validation.target_timestamps[:0],
    )
    assert chosen(replace(split, validation=nobody), *stages(split, 0, 9)) == 1.0
