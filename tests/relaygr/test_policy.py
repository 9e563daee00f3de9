"""Costs, rates, trigger, ring and router."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_world import World, costs, table

from recascade.errors import ConfigurationError
from recascade_relaygr.relay.config import RelayConfig, RouterConfig
from recascade_relaygr.relay.costs import CostTable
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.observed_quantile import ObservedQuantile, RecentQuantile
from recascade_relaygr.relay.rates import BusyWindow, TokenBucket
from recascade_relaygr.relay.requests import OwnerLoad, PrefixKey, Sizes, Ticket
from recascade_relaygr.relay.ring import HashRing
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.trigger import Trigger

MIB = 1 << 20
USERS = [f"user-{number}" for number in range(4000)]


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1)), max_size=50),
)
def test_a_longer_prefix_never_costs_less(seconds: list[float], observed: list[tuple[int, float]]) -> None:
    costs = CostTable([0, 100, 1000, 4000], [1], [[each] for each in seconds])
    for length, taken in observed:
        costs.observe(length, 1, taken)
    values = [costs.seconds(length) for length in range(0, 6000, 37)]
    assert values == sorted(values)


def test_costs_are_interpolated_in_both_directions() -> None:
    costs = CostTable([0, 100], [10, 20], [[1.0, 2.0], [3.0, 6.0]])
    assert costs.seconds(50, 15) == pytest.approx(3.0)
    assert costs.seconds(0, 10) == 1.0 and costs.seconds(100, 20) == 6.0
    assert costs.seconds(200, 10) == pytest.approx(5.0)


def test_a_quantile_of_costs_is_learnt() -> None:
    costs = CostTable([10], [1], [[0.5]], quantile=0.9)
    for number in range(20_000):
        costs.observe(10, 1, (number * 7919 % 1000) / 1000)
    assert costs.seconds(10) == pytest.approx(0.9, abs=0.05)


def test_the_longest_affordable_prefix() -> None:
    costs = table(4, 16, 40, 100)
    assert costs.longest(0.016, 128, 4096) == 1024
    assert costs.longest(1.0, 128, 300) == 300
    assert costs.longest(0.001, 128, 300) == 0


def test_a_table_that_does_not_fit_its_grid_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rows and columns"):
        CostTable([0, 1], [1], [[1.0]])


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 3)), max_size=60))
def test_a_bucket_never_lets_more_through_than_rate_and_burst(asked: list[tuple[float, float]]) -> None:
    bucket, now, paid = TokenBucket(0.5, 2.0, 0.0), 0.0, 0.0
    for pause, cost in asked:
        now += pause
        if bucket.take(cost, now):
            paid += cost
        assert paid <= 2.0 + 0.5 * now + 1e-9


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.01, 0.4), st.floats(0.01, 0.4)), max_size=80))
def test_work_within_any_window_keeps_its_limit(asked: list[tuple[float, float, float]]) -> None:
    window, now, begun = BusyWindow(1.0, 0.5), 0.0, []
    for pause, predicted, taken in asked:
        now += pause
        if window.opens(now) <= now:
            work = window.begin(now, predicted)
            window.end(work, taken)
            begun.append((now, taken))
        else:
            assert window.opens(now) <= now + 1.0
    for start, _ in begun:
        within = [taken for time, taken in begun if start <= time < start + 1.0]
        assert sum(within[:-1]) < 0.5 + 1e-9


def test_quantiles_follow_what_is_observed() -> None:
    recent = RecentQuantile(0.9, window=10)
    assert recent.value == 0.0
    for value in (0.3, 0.1, 0.2):
        recent.observe(value)
    assert recent.value == 0.3
    values = [(number * 7919 % 1000) / 1000 for number in range(100)]
    for value in values:
        recent.observe(value)
    assert recent.value == sorted(values[-10:])[9]
    worked_out = ObservedQuantile(0.1, 7.0, 0.0)
    for number in range(100):
        worked_out.observe(float(number), 0.05 * number)
    assert worked_out.value == 7.0
    worked_out.observe(100.0, 10.0)
    assert worked_out.value == 10.0


def load(**changes: float) -> OwnerLoad:
    facts = {
        "rank_queue": 0.0,
        "rank_delay": 0.0,
        "fill_queue": 0.0,
        "free_bytes": 64 * MIB,
        "capacity_bytes": 64 * MIB,
        "measured": 0.0,
    }
    return OwnerLoad(**(facts | changes))  # type: ignore[arg-type]


def trigger(**settings: float) -> Trigger:
    config = RelayConfig(rank_budget_ms=30.0)
    for name, value in settings.items():
        setattr(config.trigger, name, value)
    return Trigger(config, costs(), 0.0)


@pytest.mark.parametrize(
    ("tokens", "found", "reason"),
    [
        (1024, load(), "not-at-risk"),
        (1024, load(rank_queue=0.013), "at-risk"),
        (1024, load(rank_delay=0.013), "at-risk"),
        (2048, load(), "at-risk"),
        (2048, load(fill_queue=0.2), "too-late"),
        (2048, load(free_bytes=1), "no-room"),
        (2048, load(measured=-1.0), "owner-unknown"),
        (2048, None, "owner-unknown"),
    ],
)
def test_what_the_trigger_says(tokens: int, found: OwnerLoad | None, reason: str) -> None:
    decision = trigger().decide("a", Sizes(tokens, 64, 128), 2 * MIB, found, 0.0)
    assert (decision.admitted, decision.reason, decision.prefix_tokens) == (reason == "at-risk", reason, tokens)


def test_a_share_of_the_budget_is_at_risk_before_all_of_it_is() -> None:
    # Full inference takes 16 ms and the guard 2; with a wait of 8 that is 26 of 30.
    sizes, found = Sizes(1024, 64, 128), load(rank_delay=0.008)
    assert trigger().decide("a", sizes, 2 * MIB, found, 0.0).reason == "at-risk"
    assert trigger(risk_share=1.0).decide("a", sizes, 2 * MIB, found, 0.0).reason == "not-at-risk"


def test_a_prefix_may_come_late_where_full_inference_would_come_later_and_no_history_is_shortened() -> None:
    found, sizes = load(fill_queue=0.04), Sizes(4096, 64, 128)
    strict, patient = trigger(), trigger()
    patient.config.degrade = False
    assert strict.decide("a", sizes, 4 * MIB, found, 0.0).reason == "too-late"
    assert patient.decide("a", sizes, 4 * MIB, found, 0.0).admitted
    assert patient.decide("a", sizes, 4 * MIB, load(fill_queue=0.4), 0.0).reason == "too-late"


def test_a_history_that_even_the_relay_cannot_afford_is_cut_to_whole_pages() -> None:
    tight = trigger()
    tight.config.rank_budget_ms = 5.0
    decision = tight.decide("a", Sizes(2048, 64, 128), 2 * MIB, load(), 0.0)
    assert decision.admitted and decision.prefix_tokens == 1536
    tight.config.rank_budget_ms = 1.0
    assert tight.decide("a", Sizes(2048, 64, 128), 2 * MIB, load(), 0.0).reason == "too-long"


def test_a_prefix_that_is_there_costs_nothing_and_a_copy_little() -> None:
    late = load(fill_queue=0.05, free_bytes=0)
    assert trigger().decide("a", Sizes(2048, 64, 128), 2 * MIB, late, 0.0, held="ready").admitted
    busy = load(fill_queue=0.06)
    assert trigger().decide("a", Sizes(2048, 64, 128), 2 * MIB, busy, 0.0, held="copy").admitted
    assert not trigger().decide("a", Sizes(2048, 64, 128), 2 * MIB, busy, 0.0).admitted


def test_far_above_capacity_the_admitted_rate_is_the_rate_of_fills() -> None:
    busy = trigger(fill_share=0.5, burst_seconds=0.2)
    admitted = sum(
        busy.decide("a", Sizes(2048, 64, 128), 2 * MIB, load(measured=number / 1000), number / 1000).admitted
        for number in range(10_000)
    )
    # Two lanes half for prefixes of 30 ms: 33 in a second, 333 in ten, and a burst of 7.
    assert 300 <= admitted <= 340


def test_without_the_trigger_all_that_fits_is_admitted() -> None:
    off = trigger(enabled=False)
    assert off.decide("a", Sizes(64, 64, 128), MIB, load(), 0.0).admitted
    assert off.decide("a", Sizes(64, 64, 128), MIB, load(free_bytes=0), 0.0).reason == "no-room"


def test_when_one_of_ten_instances_goes_a_tenth_of_the_users_moves() -> None:
    before, after = (HashRing([f"i{n}" for n in range(count)], 128) for count in (10, 9))
    owners = [(next(before.owners(user)), next(after.owners(user))) for user in USERS]
    moved = [old for old, new in owners if old != new]
    assert set(moved) == {"i9"} and 0.07 < len(moved) / len(USERS) < 0.13


def test_users_are_spread_evenly_over_32_instances() -> None:
    ring = HashRing([f"i{n}" for n in range(32)], 512)
    counts = Counter(next(ring.owners(f"user-{number}")) for number in range(64_000))
    assert max(counts.values()) <= 1.25 * 2000


def test_owners_come_each_once() -> None:
    ring = HashRing("abc", 16)
    assert sorted(ring.owners("user")) == ["a", "b", "c"]
    assert list(HashRing([], 16).owners("user")) == []


def ticket(owner: str) -> Ticket:
    return Ticket("1", PrefixKey("v", "user"), b"1", True, "at-risk", owner, 0, 64, 0.0)


def test_a_ticket_holds_although_the_ring_changes_and_not_without_its_owner() -> None:
    router = Router("abc", RouterConfig())
    owner = router.signal_owner("user", "1", lambda member: 0.0)
    router.add("d")
    router.add("e")
    assert router.rank_owner(ticket(owner), "user", "1") == (owner, True)
    router.remove(owner)
    elsewhere, relay = router.rank_owner(ticket(owner), "user", "1")
    assert elsewhere in router.members and not relay and router.epoch == 3


def test_signal_and_request_of_every_user_meet() -> None:
    router = Router([f"i{n}" for n in range(7)], RouterConfig())
    for user in USERS[:500]:
        owner = router.signal_owner(user, "1", lambda member: 0.0)
        assert router.rank_owner(ticket(owner), user, "1") == (owner, True)
        assert router.rank_owner(None, user, "2") == (owner, True)


def test_without_affinity_they_rarely_meet() -> None:
    router = Router([f"i{n}" for n in range(10)], RouterConfig(affinity=False))
    met = sum(
        router.signal_owner(user, user, lambda member: 0.0) == router.rank_owner(ticket("i0"), user, user)[0]
        for user in USERS
    )
    assert 0.05 < met / len(USERS) < 0.15


def test_a_busy_owner_passes_a_signal_on() -> None:
    router = Router("abc", RouterConfig())
    owner = router.signal_owner("user", "1", lambda member: 0.0)
    assert router.signal_owner("user", "1", lambda member: 9.0 if member == owner else 1.0) != owner
    assert router.signal_owner("user", "1", lambda member: 9.0) == owner


def test_a_router_without_instances_names_nobody() -> None:
    router = Router([], RouterConfig())
    assert router.signal_owner("user", "1", lambda member: 0.0) == ""
    assert router.rank_owner(None, "user", "1") == ("", True)


def test_a_gateway_learns_the_slack_from_its_tickets() -> None:
    world = World()
    made = trigger()
    gateway = Gateway(made, Router("a", RouterConfig()), lambda owner: load(), world.instance.cache.bytes_of)
    for number in range(20):
        given = gateway.ticket(str(number), PrefixKey("v", "u"), b"1", Sizes(2048, 64, 128), 0.0)
        assert given.admitted == bool(given.owner)
        gateway.route(given, "u", str(number), 11.0)
    assert made.slack.value == 11.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cache.eviction", "fifo"),
        ("router.load_bound", 0.5),
        ("trigger.fill_share", 0.0),
        ("executor.chunk_tokens", 100),
        ("executor.lanes", 0),
        ("rank_budget_ms", -1.0),
    ],
)
def test_settings_that_cannot_work_are_refused(key: str, value: object) -> None:
    from recascade.settings import compose_sections

    with pytest.raises(ConfigurationError, match=key.replace(".", r"\.")):
        compose_sections({"relay": RelayConfig}, {f"relay.{key}": value})


def test_the_relay_can_reach_no_other_machine_and_needs_no_torch() -> None:
    code = (
        "import sys, recascade_relaygr.relay.instance, recascade_relaygr.relay.gateway;"
        "print(sorted({'torch', 'socket', 'asyncio', 'ray', 'numpy'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
