"""What every counting model promises, whatever it counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.evaluation.requests import requests
from recascade.models.co_visit import CoVisit
from recascade.models.item_knn import ItemKNN
from recascade.models.personal_frequency import PersonalFrequency
from recascade.models.popularity import Popularity
from recascade.models.transition import Transition
from recascade.models.transition_similarity import TransitionSimilarity

MODELS: dict[str, Callable[[EncodedSplit], Retriever]] = {
    "popularity": Popularity.fit,
    "personal-frequency": PersonalFrequency.fit,
    "personal-frequency with decay": lambda data: PersonalFrequency.fit(data, decay=0.9),
    "transition": Transition.fit,
    "co-visit": CoVisit.fit,
    "symmetric co-visit": lambda data: CoVisit.fit(data, directed=False),
    "item-knn": lambda data: ItemKNN.fit(data, neighbours=4, shrinkage=1.0),
    "transition-similarity": TransitionSimilarity.fit,
    "transition-similarity of two": lambda data: TransitionSimilarity.fit(data, sources="last-two"),
}
ITEMS = 30

MakeSplit = Callable[..., EncodedSplit]


def random_split(make: MakeSplit, seed: int = 0, ties: str = "shuffle") -> EncodedSplit:
    generator = np.random.default_rng(seed)

    def rows(least: int, most: int) -> list[list[int]]:
        return [generator.integers(0, ITEMS, generator.integers(least, most)).tolist() for _ in range(40)]

    return make(rows(0, 12), items=ITEMS, validation=rows(1, 2), test=rows(1, 2), ties=ties)


@pytest.fixture(params=MODELS)
def model_of(request: pytest.FixtureRequest) -> Callable[[EncodedSplit], Retriever]:
    return MODELS[request.param]


def asked(data: EncodedSplit) -> Context:
    return requests(data.events, data.test, np.arange(len(data.test)))


def test_lists_are_distinct_items_in_the_order_of_their_scores(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    model = model_of(data)
    assert isinstance(model, Retriever)
    found = model.retrieve(asked(data), 12)
    assert found.items.shape == found.scores.shape == (40, 12)
    assert found.items.dtype == torch.int64 and found.scores.dtype == torch.float32
    assert all(len(set(row)) == 12 and min(row) >= 0 for row in found.items.tolist())
    assert (found.scores.diff(dim=1) <= 0).all()


def test_longer_lists_begin_with_the_shorter(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    model = model_of(data)
    longer, shorter = model.retrieve(asked(data), 20).items, model.retrieve(asked(data), 10).items
    assert torch.equal(longer[:, :10], shorter)


def test_asking_beyond_the_catalogue_gives_all_of_it(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    found = model_of(data).retrieve(asked(data), ITEMS + 5)
    assert all(sorted(row[:ITEMS]) == list(range(ITEMS)) for row in found.items.tolist())
    assert (found.items[:, ITEMS:] == -1).all() and (found.scores[:, ITEMS:] == -torch.inf).all()


def test_seen_items_and_others_than_candidates_stay_out(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    context = asked(data)
    candidates = torch.tensor([1, 5, 7, 8, 21, 22, 29])
    found = model_of(data).retrieve(context, 7, exclude_seen=True, candidates=candidates).items
    for row, items in enumerate(found.tolist()):
        history = set(context.items[context.offsets[row] : context.offsets[row + 1]].tolist())
        assert {item for item in items if item >= 0} == set(candidates.tolist()) - history


def test_a_list_does_not_depend_on_the_other_requests(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    model = model_of(data)
    together = model.retrieve(asked(data), 8, exclude_seen=True).items
    for row in (0, 17, 39):
        alone = model.retrieve(requests(data.events, data.test, np.array([row])), 8, exclude_seen=True).items
        assert torch.equal(alone[0], together[row])


def test_an_empty_history_gets_the_popular_items(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    data = random_split(encoded_split)
    nobody = torch.empty(0, dtype=torch.int64)
    stranger = Context(torch.tensor([-1]), nobody, nobody, torch.tensor([0, 0]))
    expected = Popularity.fit(data).retrieve(stranger, 10).items
    assert torch.equal(model_of(data).retrieve(stranger, 10).items, expected)


def test_no_requests_get_no_lists(encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]) -> None:
    data = random_split(encoded_split)
    nobody = torch.empty(0, dtype=torch.int64)
    assert model_of(data).retrieve(Context(nobody, nobody, nobody, torch.tensor([0])), 3).items.shape == (0, 3)


def test_held_out_events_are_not_counted(
    encoded_split: MakeSplit, model_of: Callable[[EncodedSplit], Retriever]
) -> None:
    histories = [[0, 1, 2], [2, 3, 4, 0], [1, 4]]
    other = [[9, 8], [7], [6, 5]]
    with_validation = encoded_split(histories, items=ITEMS, validation=other, test=[[1]] * 3)
    without = encoded_split(histories, items=ITEMS, validation=[[]] * 3, test=[[2]] * 3)
    context = asked(without)
    one = model_of(with_validation).retrieve(context, ITEMS)
    two = model_of(without).retrieve(context, ITEMS)
    assert torch.equal(one.items, two.items) and torch.equal(one.scores, two.scores)
