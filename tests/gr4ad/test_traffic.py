"""Beams that follow the traffic, and a cache that forgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade_gr4ad.beam_serving import ArrivalRate, BeamController, beam_scale
from recascade_gr4ad.result_cache import CachedList, ResultCache

LIMITS = (100.0, 20.0, 1.6)


@given(st.floats(0, 500), st.floats(0, 500))
def test_beams_never_widen_with_the_load(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 1.6 >= beam_scale(low, *LIMITS) >= beam_scale(high, *LIMITS) >= 1.0


def test_beams_at_the_ends_and_between() -> None:
    assert beam_scale(100, *LIMITS) == beam_scale(400, *LIMITS) == 1.0
    assert beam_scale(0, *LIMITS) == beam_scale(20, *LIMITS) == 1.6
    assert beam_scale(60, *LIMITS) == pytest.approx(1.3)
    assert beam_scale(0, 0, 0, 1.6) == 1.0


def controller(**settings: Any) -> BeamController:
    return BeamController((128, 256, 512), busy_rate=100, idle_rate=20, **settings)


def test_a_swinging_rate_leaves_the_beams_alone() -> None:
    beams = controller()
    beams.follow(70.0)
    beams.follow(73.5)
    settled = {beams.follow(70 * swing) for swing in (0.95, 1.05, 0.97, 1.0) * 10}
    assert len(settled) == 1
    without = controller(hysteresis=0.0)
    assert len({without.follow(70 * swing) for swing in (0.95, 1.05, 0.97, 1.0) * 10}) > 1


def test_traffic_narrows_beams_at_once_and_widens_them_when_it_is_gone() -> None:
    beams = controller()
    assert beams.follow(0.0) == (205, 410, 819)
    assert beams.follow(150.0) == (128, 256, 512)
    assert beams.follow(140.0) == (128, 256, 512)
    assert beams.follow(60.0) == (166, 333, 666)
    assert beams.follow(100.0) == (128, 256, 512)


def test_the_rate_forgets_what_is_long_ago() -> None:
    rate = ArrivalRate(10.0)
    assert [rate.arrive(second) for second in (0, 1, 2)] == pytest.approx([0.1, 0.2, 0.3])
    assert rate.arrive(10.0) == pytest.approx(0.3)
    assert rate.arrive(100.0) == pytest.approx(0.1)


def kept(*items: str) -> CachedList:
    return CachedList(items, [0.0] * len(items))


def everything(_: str) -> bool:
    return True


def test_a_list_lives_until_its_time_is_over_and_not_a_moment_longer() -> None:
    cache = ResultCache(60.0, 10)
    cache.put("u", "home", kept("a", "b"), now=5.0)
    assert cache.get("u", "home", 2, 64.999, everything) == kept("a", "b")
    assert cache.get("u", "home", 2, 65.0, everything) is None
    assert cache.get("u", "home", 2, 10.0, everything) is None


def test_a_list_belongs_to_one_user_and_one_placement() -> None:
    cache = ResultCache(60.0, 10)
    cache.put("u", "home", kept("a"), now=0.0)
    assert cache.get("v", "home", 1, 1.0, everything) is None
    assert cache.get("u", "feed", 1, 1.0, everything) is None
    assert cache.get("u", "home", 1, 1.0, everything) is not None


def test_a_longer_list_answers_a_shorter_request_and_no_longer_one() -> None:
    cache = ResultCache(60.0, 10)
    cache.put("u", "", kept("a", "b", "c"), now=0.0)
    assert cache.get("u", "", 2, 1.0, everything) == kept("a", "b")
    assert cache.get("u", "", 4, 1.0, everything) is None


def test_a_deleted_ad_is_never_given_again() -> None:
    cache = ResultCache(60.0, 10)
    cache.put("u", "", kept("a", "b", "c"), now=0.0)
    assert cache.get("u", "", 3, 1.0, lambda ad: ad != "b") is None
    assert cache.get("u", "", 1, 1.0, lambda ad: ad != "b") == kept("a")


def test_the_oldest_lists_make_room() -> None:
    cache = ResultCache(60.0, 2)
    for now, user in enumerate("uvuw"):
        cache.put(user, "", kept("a"), float(now))
    assert len(cache) == 2
    assert [cache.get(user, "", 1, 4.0, everything) is not None for user in "uvw"] == [True, False, True]
    off = ResultCache(0.0, 2)
    off.put("u", "", kept("a"), 0.0)
    assert len(off) == 0


def test_the_hit_rate_is_that_of_a_replay() -> None:
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0, 600, 3000))
    users = random.zipf(1.5, 3000) % 200
    cache, stored, hits = ResultCache(60.0, 1000), dict[int, float](), 0
    for now, user in zip(times.tolist(), users.tolist(), strict=True):
        if user in stored and now - stored[user] < 60:
            hits += 1
        else:
            stored[user] = now
        if cache.get(str(user), "", 1, now, everything) is None:
            cache.put(str(user), "", kept("a"), now)
    assert cache.hits == hits and cache.hits + cache.misses == 3000 and 0.2 < hits / 3000 < 0.98
