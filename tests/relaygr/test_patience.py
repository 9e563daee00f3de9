"""Prefixes that are run in the ranking stage and stay, where none was run ahead."""

from __future__ import annotations

import pytest
from relay_world import World


def test_a_user_who_comes_back_finds_what_the_first_visit_computed() -> None:
    world = World(fill_on_rank=True)
    for request in ("1", "2"):
        world.rank(request)
        world.settle(0.2)
    assert (world.path("1"), world.path("2")) == ("full", "relay")
    assert world.answers["1"].served == pytest.approx(0.030 + 0.006)
    assert world.answers["2"].served == pytest.approx(0.006)
    assert world.device.count("full") == 0


def test_a_short_prefix_is_not_worth_its_memory() -> None:
    world = World(fill_on_rank=True)
    world.rank("1", tokens=128)
    world.settle()
    assert world.device.count("full") == 1 and world.instance.cache.reserved_bytes == 0


def test_where_the_answer_would_be_late_the_history_is_shortened_as_ever() -> None:
    world = World(fill_on_rank=True)
    world.rank("1", budget=0.035)
    world.settle()
    assert world.path("1") == "degraded" and world.device.count("prefill") == 0


def test_where_no_history_may_be_shortened_late_answers_leave_their_prefixes_too() -> None:
    world = World(fill_on_rank=True, degrade=False)
    world.rank("1", budget=0.0)
    world.settle()
    assert world.path("1") == "full" and world.device.count("prefill") == 4


def test_a_prefix_slower_than_foretold_does_not_hold_its_request_up() -> None:
    world = World(fill_on_rank=True)
    world.device.noise = lambda: 5.0
    world.rank("1", budget=0.05)
    world.settle()
    assert world.path("1") == "degraded" and world.answers["1"].served < 0.1
    assert world.device.count("prefill") == 4


def test_a_prefix_that_waits_for_its_turn_is_run_for_the_request_and_stays() -> None:
    world = World(fill_on_rank=True, executor__lanes=1)
    world.rank("other", user="other", tokens=128)
    world.signal("1")
    world.at(1)
    world.rank("1", budget=0.2)
    world.settle(0.2)
    assert world.path("1") == "full" and world.device.count("prefill") == 4
    world.rank("2")
    world.settle()
    assert world.path("2") == "relay"


def test_without_room_ranking_is_full() -> None:
    world = World(fill_on_rank=True, cache__capacity_mib=0.5)
    world.rank("1")
    world.settle()
    assert world.path("1") == "full" and world.device.count("full") == 1


@pytest.mark.parametrize("degrade", [True, False])
def test_a_fill_that_is_only_slower_than_foretold_is_waited_for(degrade: bool) -> None:
    world = World(degrade=degrade, join_slop_ms=2.0)
    world.device.noise = lambda: 1.4
    world.signal("1")
    world.at(14)
    world.rank("1", budget=0.06)
    world.settle()
    assert world.path("1") == "relay_joined" and world.device.count("full") == 0


def test_a_fill_that_does_not_move_is_not_waited_for_any_longer() -> None:
    world = World(degrade=False, join_slop_ms=2.0)
    world.device.noise = lambda: 50.0
    world.signal("1")
    world.at(1)
    world.device.noise = lambda: 1.0
    world.rank("1")
    world.settle()
    assert world.path("1") == "full" and world.answers["1"].served < 0.1
