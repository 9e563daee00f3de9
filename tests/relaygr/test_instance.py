"""One instance: every order of signals and requests is answered, on the prefix wherever that is of use."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_world import Failure, World

from recascade_relaygr.relay.cache import State
from recascade_relaygr.relay.requests import InstanceGoneError, PrefixKey


def test_a_signal_in_time_makes_ranking_short() -> None:
    world = World()
    assert world.signal("1") == "started"
    world.at(60)
    world.rank("1")
    world.settle()
    assert world.path("1") == "relay"
    assert world.answers["1"].served == pytest.approx(0.006)
    assert world.device.count("prefill") == 4 and world.device.count("full") == 0


def test_without_a_signal_ranking_is_full() -> None:
    world = World()
    world.rank("1")
    world.settle()
    assert world.path("1") == "full" and world.answers["1"].served == pytest.approx(0.040)


@pytest.mark.parametrize("order", list(permutations(["signal 1", "signal 2", "rank 1", "rank 2"])))
@pytest.mark.parametrize("gap", [0, 5, 40])
def test_every_order_of_two_signals_and_two_requests_is_answered_in_full(order: tuple[str, ...], gap: float) -> None:
    world = World()
    for number, event in enumerate(order):
        world.at(number * gap)
        kind, request = event.split()
        if kind == "signal":
            late = f"rank {request}" in order[:number]
            assert (world.signal(request) == "late") == late
        else:
            world.rank(request)
    world.settle()
    assert set(world.answers) == {"1", "2"} and not world.answered_twice
    assert all(outcome.path != "degraded" and outcome.error is None for outcome in world.answers.values())


def test_a_signal_after_its_request_does_no_work() -> None:
    world = World()
    world.rank("1")
    world.settle(0.1)
    assert world.signal("1") == "late"
    world.settle()
    assert world.device.count("prefill") == 0 and world.instance.cache.reserved_bytes == 0


def test_a_signal_past_its_deadline_does_no_work() -> None:
    world = World()
    assert world.signal("1", life=-0.001) == "late"


def test_64_signals_and_requests_of_one_user_run_the_prefix_once() -> None:
    world = World(executor__lanes=4, degrade=False)
    for number in range(64):
        world.signal(str(number))
    world.at(31)
    for number in range(64):
        world.rank(str(number))
    world.settle()
    assert len(world.answers) == 64
    assert world.device.count("prefill") == 4 and world.device.count("full") == 0


@settings(max_examples=25)
@given(st.data())
def test_each_content_of_a_user_is_run_once_while_it_stays(data: st.DataObject) -> None:
    world = World(executor__lanes=3, rank_budget_ms=500.0)
    users = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    for number, user in enumerate(users):
        world.signal(str(number), user=str(user), tokens=512)
    world.settle(0.2)
    for number, user in enumerate(users):
        world.rank(str(number), user=str(user), tokens=512)
    world.settle()
    assert world.device.count("prefill") == len(set(users))
    assert {outcome.path for outcome in world.answers.values()} == {"relay"}


def test_a_request_joins_a_fill_under_way() -> None:
    world = World()
    world.signal("1")
    world.at(10)
    world.rank("1")
    world.settle()
    assert world.path("1") == "relay_joined"
    assert world.answers["1"].served == pytest.approx(0.020 + 0.006)


def test_waiting_for_a_prefix_is_no_waiting_for_a_lane() -> None:
    world = World()
    for number in range(20):
        world.signal(str(number), user=str(number))
        world.settle(0.010)
        world.rank(str(number), user=str(number))
        world.settle(1.0)
    assert {outcome.path for outcome in world.answers.values()} == {"relay_joined"}
    assert max(outcome.queued for outcome in world.answers.values()) == pytest.approx(0.0, abs=1e-9)
    assert world.instance.load().rank_delay == pytest.approx(0.0, abs=1e-9)


def test_the_wait_of_a_prefix_for_a_lane_is_a_wait_for_a_lane() -> None:
    world = World(executor__lanes=1, fill_on_rank=True)
    world.rank("other", user="other", relay=False)
    world.at(10)
    world.rank("1", budget=1.0)
    world.settle()
    # 30 ms until the other's full inference ends, then 30 ms of running the prefix and 6 of ranking on it.
    assert world.path("1") == "full" and world.answers["1"].served == pytest.approx(0.066)
    assert world.answers["1"].queued == pytest.approx(0.030)
    assert world.instance.load().rank_delay == pytest.approx(0.030)


def test_a_fill_that_has_not_begun_is_called_off_for_full_inference() -> None:
    world = World(executor__lanes=1)
    world.rank("other", user="other")
    world.signal("1")
    world.at(5)
    world.rank("1", budget=0.2)
    assert world.instance.cache.reserved_bytes == 0
    world.settle()
    assert world.path("1") == "full" and world.device.count("prefill") == 0


def test_ranking_goes_before_prefixes_and_prefixes_yield_between_chunks() -> None:
    world = World(executor__lanes=1, executor__chunk_tokens=512)
    world.signal("1")
    world.at(1)
    world.rank("2", user="short", tokens=0)
    world.settle()
    assert [work.kind for work in world.device.works[:3]] == ["prefill", "full", "prefill"]


def test_without_priority_a_request_waits_behind_prefixes() -> None:
    world = World(executor__lanes=1, executor__priority=False)
    for number in range(3):
        world.signal(str(number), user=str(number), tokens=512)
    world.rank("short", user="short", tokens=0)
    world.settle()
    assert [work.kind for work in world.device.works[:4]] == ["prefill"] * 3 + ["full"]


def test_lanes_are_never_exceeded_and_fills_keep_their_share() -> None:
    world = World(executor__lanes=2, trigger__fill_share=0.25, cache__capacity_mib=512.0)
    for number in range(100):
        world.signal(str(number), user=str(number), tokens=1024, life=100.0)
    world.settle(10.0)
    assert world.device.most_running <= 2
    begun = 0.25 * 2 * 10.0
    # One second's share may be spent at once at the beginning, and each lane may have one chunk under way.
    assert 0.2 < world.device.busy <= begun + 0.25 * 2 + 2 * 0.012


def test_a_second_visit_brings_the_copy_back_and_copies_it_no_second_time() -> None:
    world = World(cache__capacity_mib=2.0)
    world.signal("1")
    world.at(60)
    world.rank("1")
    world.settle()
    assert world.instance.expander.bytes == 2048 * 1024
    world.signal("other", user="other")
    world.settle(0.2)
    assert world.instance.cache.get(PrefixKey("v", "u"), b"1") is None
    world.rank("other", user="other")
    world.settle()
    before = world.device.count("prefill")
    assert world.signal("2") == "started"
    world.settle(0.1)
    world.rank("2")
    world.settle()
    assert world.path("2") == "relay" and world.device.count("reload") == 1
    assert world.device.count("prefill") == before and world.device.count("copy") == 2


def test_a_prefix_whose_copy_has_gone_is_copied_anew() -> None:
    world = World(expander__seconds=5.0)
    for number in range(3):
        world.signal(str(number))
        world.settle(0.1)
        world.rank(str(number))
        world.settle(10.0)
    assert [world.path(str(number)) for number in range(3)] == ["relay"] * 3
    assert world.device.count("prefill") == 4 and world.device.count("copy") == 3


def test_a_request_without_a_signal_brings_a_copy_back_itself() -> None:
    world = World(cache__capacity_mib=2.0)
    world.signal("1")
    world.at(60)
    world.rank("1")
    world.settle()
    world.signal("other", user="other")
    world.settle()
    world.rank("2")
    world.settle()
    assert world.path("2") == "relay_reload"
    assert world.answers["2"].served == pytest.approx(0.002 + 0.006)


def test_a_copy_of_another_content_is_not_used() -> None:
    world = World()
    world.signal("1", content=b"old")
    world.at(60)
    world.rank("1", content=b"old")
    world.settle()
    world.rank("2", content=b"new")
    world.settle()
    assert world.path("2") == "full"


def test_a_prefix_of_other_weights_is_not_used() -> None:
    world = World()
    world.signal("1")
    world.settle(0.1)
    assert world.instance.held(PrefixKey("v", "u"), b"1") == "ready"
    assert world.instance.held(PrefixKey("w", "u"), b"1") == ""


@pytest.mark.parametrize("kind", ["prefill", "rank", "reload", "copy"])
def test_failures_of_the_relay_end_in_full_inference(kind: str) -> None:
    world = World(cache__capacity_mib=2.0, rank_budget_ms=500.0)
    world.device.fails = lambda work: work.kind == kind
    for number in range(12):
        user = str(number % 2)
        world.signal(str(number), user=user)
        world.clock.run_until(world.clock.time() + (0.01 if number % 3 else 0.06))
        world.rank(str(number), user=user)
        world.settle(0.5)
    world.settle()
    assert len(world.answers) == 12 and all(outcome.error is None for outcome in world.answers.values())
    assert {outcome.path for outcome in world.answers.values()} <= {"relay", "relay_joined", "relay_reload", "full"}
    assert all(entry.pins == 0 for entry in world.instance.cache.entries)


def test_a_damaged_copy_is_dropped() -> None:
    world = World(cache__capacity_mib=2.0)
    world.signal("1")
    world.at(60)
    world.rank("1")
    world.settle()
    world.signal("other", user="other")
    world.settle()
    world.device.fails = lambda work: work.kind == "reload"
    world.rank("2", budget=1.0)
    world.settle()
    assert world.path("2") == "full" and world.instance.held(PrefixKey("v", "u"), b"1") == ""


def test_failing_full_inference_is_tried_once_more_without_the_prefix() -> None:
    world = World()
    world.device.fails = lambda work: work.kind == "full" and work.sizes.prefix > 0
    world.rank("1")
    world.settle()
    assert world.path("1") == "degraded" and world.answers["1"].prefix_tokens == 0


def test_a_ranker_that_always_fails_is_an_error_and_not_silence() -> None:
    world = World()
    world.device.fails = lambda work: True
    world.rank("1")
    world.settle()
    assert isinstance(world.answers["1"].error, Failure)


def test_without_time_the_history_is_shortened_to_what_fits() -> None:
    world = World()
    world.rank("none", budget=0.0)
    world.rank("some", budget=0.018)
    world.settle()
    assert world.answers["none"].prefix_tokens == 0 and world.path("none") == "degraded"
    assert 1024 <= world.answers["some"].prefix_tokens < 2048


def test_where_degrading_is_off_the_answer_is_late_and_full() -> None:
    world = World(degrade=False)
    world.rank("1", budget=0.0)
    world.settle()
    assert world.path("1") == "full"


def test_what_waits_at_an_instance_that_leaves_is_told_at_once() -> None:
    world = World(executor__lanes=1)
    for number in range(3):
        world.rank(str(number), user=str(number))
    world.instance.leave()
    assert all(isinstance(outcome.error, InstanceGoneError) for outcome in world.answers.values())
    world.rank("late")
    assert isinstance(world.answers["late"].error, InstanceGoneError)
    assert world.signal("late") == "late"
    world.settle()
    assert len(world.answers) == 4 and not world.answered_twice


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    world = World(executor__lanes=1)
    world.rank("other", user="other")
    world.signal("1")
    world.instance.cancel("1")
    assert world.instance.cache.reserved_bytes == 0
    world.signal("2")
    world.at(50)
    world.rank("2")
    world.instance.cancel("2")
    world.settle()
    assert set(world.answers) == {"other"}
    assert all(entry.pins == 0 and entry.state is State.SPENT for entry in world.instance.cache.entries)


def test_a_cancelled_request_gives_up_its_place_its_promise_and_its_hurry() -> None:
    world = World(executor__lanes=1, fill_on_rank=True)
    world.signal("1")
    world.at(1)
    world.rank("1", budget=1.0)
    entry = world.instance.cache.entries[0]
    fill = entry.fill
    assert fill.waiters and fill.deadline is not None and entry.expected
    world.instance.cancel("1")
    assert not fill.waiters and fill.deadline is None and not entry.expected
    world.settle()
    assert not world.answers and entry.state is State.SPENT and world.device.count("rank") == 0


def test_a_fill_that_only_a_cancelled_request_waited_for_is_called_off() -> None:
    world = World(executor__lanes=1, fill_on_rank=True)
    world.rank("other", user="other", relay=False)
    world.rank("1", budget=1.0)
    world.rank("2", budget=1.0)
    assert len(world.instance.cache.entries[0].fill.waiters) == 2
    world.instance.cancel("1")
    assert world.instance.cache.reserved_bytes
    world.instance.cancel("2")
    assert not world.instance.cache.reserved_bytes
    world.settle()
    assert set(world.answers) == {"other"} and world.device.count("prefill") == 0


def test_the_lru_cache_across_requests_needs_no_signal() -> None:
    world = World(fill_on_rank=True, cache__eviction="lru", degrade=False)
    for number in range(2):
        world.rank(str(number))
        world.settle(1.0)
    assert (world.path("0"), world.path("1")) == ("full", "relay")


def test_a_copy_is_waited_for_as_long_as_full_inference_would_wait_for_a_lane() -> None:
    world = World(executor__lanes=1, fill_on_rank=True, degrade=False, cache__capacity_mib=2.0)
    world.rank("1")
    world.settle(1.0)
    world.rank("2", user="other")
    world.settle(1.0)
    assert world.instance.held(PrefixKey("v", "u"), b"1") == "copy"
    world.rank("busy", user="busy", relay=False)
    world.signal("3")
    world.rank("3")
    world.settle()
    assert world.path("3") == "relay_reload"
    assert world.answers["3"].served == pytest.approx(0.040 + 0.002 + 0.006)


def test_in_an_overload_a_copy_that_takes_next_to_nothing_is_made_before_rankings() -> None:
    world = World(executor__lanes=1, fill_on_rank=True, degrade=False)
    for number in range(3):
        world.at(number)
        world.rank(str(number), user=str(number), tokens=4096)
    world.at(200)
    assert world.device.count("copy") >= 1
    assert len(world.answers) < 3


def test_the_lru_cache_copies_what_it_may_free_to_host_memory_too() -> None:
    world = World(fill_on_rank=True, cache__eviction="lru", cache__capacity_mib=2.0, degrade=False)
    for user in ("u", "other"):
        world.rank(user, user=user)
        world.settle(1.0)
    assert world.device.count("copy") == 2
    world.rank("again")
    world.settle()
    assert world.path("again") == "relay_reload"


ACTIONS = st.binary(min_size=600, max_size=1200)


@settings(max_examples=100)
@given(ACTIONS, st.booleans(), st.booleans())
def test_in_any_order_everything_is_answered_once_and_nothing_leaks(stream: bytes, keep: bool, degrade: bool) -> None:
    world = World(
        cache__capacity_mib=6.0, expander__capacity_mib=9.0, executor__lanes=2, fill_on_rank=keep, degrade=degrade
    )
    asked: set[str] = set()
    cancelled: set[str] = set()
    failing = iter(stream)
    world.device.fails = lambda work: work.kind != "full" and next(failing, 0) % 9 == 0
    for number, (action, which, size) in enumerate(zip(stream[::3], stream[1::3], stream[2::3], strict=False)):
        user, content, tokens = str(which % 5), b"2" if size % 13 == 0 else b"1", 64 * (1 + size % 40)
        request = f"{user}-{content!r}-{tokens}-{number // 4}"
        match action % 5:
            case 0 | 1:
                world.signal(request, user, tokens, content, life=size / 500)
            case 2 | 3 if request not in asked:
                asked.add(request)
                world.rank(request, user, tokens, content)
            case 4 if size % 3 == 0 and (waiting := sorted(asked - cancelled - set(world.answers))):
                cancelled.add(waiting[which % len(waiting)])
                world.instance.cancel(waiting[which % len(waiting)])
            case _:
                world.clock.run_until(world.clock.time() + size / 4000)
        assert world.instance.cache.reserved_bytes <= world.instance.cache.capacity_bytes
        assert world.instance.expander.bytes <= world.instance.expander.capacity
        assert world.device.running <= 2
    world.settle()
    assert set(world.answers) == asked - cancelled and not world.answered_twice
    assert all(outcome.error is None for outcome in world.answers.values())
    entries = world.instance.cache.entries
    assert all(entry.pins == 0 and entry.state is State.SPENT and not entry.expected for entry in entries)
    held = sum(world.instance.cache.bytes_of(entry.tokens) for entry in entries)
    assert world.instance.cache.reserved_bytes == held
    assert world.instance.executor.rank_queue == pytest.approx(0.0, abs=1e-9)
    assert world.instance.executor.fill_queue == pytest.approx(0.0, abs=1e-9)
