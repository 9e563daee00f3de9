"""The planted world: what is picked, who knows what, and that a re-ranker can find it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from psad_runs import trained

from recascade.data.reranking_lists import RerankingLists
from recascade.errors import ConfigurationError
from recascade.evaluation.list_metrics import ndcg, ordered_labels
from recascade.models.initial_order import InitialOrder
from recascade_psad.planted import AVERSIONS, PlantedWorld, planted_world
from recascade_psad.planted_lists import planted_lists


@pytest.fixture(scope="module")
def world() -> PlantedWorld:
    return planted_world(400, items=300, seed=1)


@pytest.fixture(scope="module")
def lists(world: PlantedWorld) -> RerankingLists:
    return planted_lists(world)


def test_the_same_seed_plants_the_same_world(world: PlantedWorld) -> None:
    again, other = planted_world(400, items=300, seed=1), planted_world(400, items=300, seed=2)
    assert np.array_equal(world.candidates, again.candidates) and np.array_equal(world.picked, again.picked)
    assert not np.array_equal(world.candidates, other.candidates)


def test_picks_are_those_of_greedy_selection(world: PlantedWorld) -> None:
    for row in range(0, 400, 7):
        vectors, wish = world.vectors[world.candidates[row]], world.wishes[row]
        aversion = AVERSIONS[world.aversions[row]]
        chosen: list[int] = []
        for _ in range(4):
            worth = [
                -np.inf
                if place in chosen
                else wish @ vectors[place] - aversion * max((vectors[place] @ vectors[c] for c in chosen), default=0)
                for place in range(10)
            ]
            chosen.append(int(np.argmax(worth)))
        assert set(np.flatnonzero(world.picked[row])) == set(chosen)


def test_candidates_are_distinct_and_a_third_to_a_half_are_of_one_category(world: PlantedWorld) -> None:
    assert all(len(set(row)) == 10 for row in world.candidates.tolist())
    most = [np.bincount(world.categories[row]).max() for row in world.candidates]
    assert min(most) >= 3 and np.mean(most) < 6


def test_utility_is_what_it_says(world: PlantedWorld) -> None:
    rows, items = np.array([3, 8]), world.candidates[[3, 8], :3]
    for value, row, chosen in zip(world.utility(rows, items), rows, items, strict=True):
        vectors = world.vectors[chosen]
        expected = sum(vectors @ world.wishes[row])
        expected -= AVERSIONS[world.aversions[row]] * (
            vectors[1] @ vectors[0] + max(vectors[2] @ vectors[0], vectors[2] @ vectors[1])
        )
        assert value == pytest.approx(expected)


def test_picked_candidates_are_worth_more_than_others(world: PlantedWorld) -> None:
    rows = np.arange(400)
    best = np.take_along_axis(world.candidates, np.argsort(~world.picked, axis=1, kind="stable"), 1)[:, :4]
    worst = np.take_along_axis(world.candidates, np.argsort(world.picked, axis=1, kind="stable"), 1)[:, :4]
    most = [
        max(world.utility(np.array([row]), np.array([order]))[0] for order in itertools.permutations(best[row]))
        for row in range(20)
    ]
    assert (world.utility(rows, best) > world.utility(rows, worst)).mean() > 0.95
    assert (np.array(most) >= world.utility(rows[:20], best[:20]) - 1e-9).all()


def test_lists_keep_the_worlds_labels_in_the_initial_rankers_order(world: PlantedWorld, lists: RerankingLists) -> None:
    assert len(lists) == 320
    batch = lists.batch(np.arange(320))
    for row, user in enumerate(lists.users.tolist()):
        picked = set(world.candidates[user][world.picked[user]].tolist())
        items, labels = batch.candidate_items[row].tolist(), batch.labels[row].tolist()
        assert sorted(items) == sorted(world.candidates[user].tolist())
        assert {item for item, label in zip(items, labels, strict=True) if label} == picked
    scores = lists.scores.reshape(320, 10)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert [len(lists.rows(part)) for part in ("train", "validation", "test")] == [240, 40, 40]


def test_histories_are_the_latest_events_and_end_before_the_request(world: PlantedWorld, lists: RerankingLists) -> None:
    batch = lists.batch(np.arange(320))
    for row, user in enumerate(lists.users.tolist()):
        length = int(batch.history_mask[row].sum())
        assert length == world.lengths[user] >= 10
        assert batch.history_items[row, :length].tolist() == world.history[user, -length:].tolist()
        assert np.allclose(batch.history_ages[row, :length].numpy(), np.log2(1 + world.ages[user, -length:]), atol=0.05)


def test_the_initial_ranker_saw_only_lists_that_nobody_sees_again(world: PlantedWorld) -> None:
    picked = world.picked.copy()
    picked[80:] = ~picked[80:]
    other = planted_lists(replace(world, picked=picked))
    assert np.array_equal(other.scores, planted_lists(world).scores)


def test_a_student_finds_what_the_initial_ranker_does_not(tmp_path: Path) -> None:
    lists = planted_lists(planted_world(2000, items=600, seed=0))
    batch = lists.batch(lists.rows("test"))
    labels = batch.labels.numpy()

    def quality(orders: np.ndarray) -> float:
        return float(ndcg(ordered_labels(labels, orders), labels, 5).mean())

    initial = quality(InitialOrder().rerank(batch, 10).numpy())
    student = trained(tmp_path, lists, epochs=3, dimension=32, dropout=0.1)
    assert quality(student.rerank(batch.without_labels(), 10).numpy()) > initial + 0.08


def test_worlds_that_cannot_be_drawn_are_refused() -> None:
    for wrong in ({"picks": 11}, {"picks": 0}, {"items": 50}):
        with pytest.raises(ConfigurationError, match="cannot be drawn"):
            planted_world(10, **wrong)
