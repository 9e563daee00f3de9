"""The prefix cache: bounded by construction, and what was promised stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recascade_relaygr.relay.arena import PageArena
from recascade_relaygr.relay.cache import Entry, PrefixCache, State
from recascade_relaygr.relay.requests import PrefixKey

PAGE_TOKENS, PAGE_BYTES, PAGES = 4, 10, 24
WINDOW = 5.0
MACHINE = settings(max_examples=120)
STREAMS = st.binary(min_size=3000, max_size=3000)
"""Three bytes make a step: 120 streams of 1,000 steps are 1.2 · 10⁵."""


def key(user: int | str) -> PrefixKey:
    return PrefixKey("v", str(user))


def cache(pages: int = PAGES, **settings: bool) -> PrefixCache:
    return PrefixCache(PageArena(pages * PAGE_BYTES + 7, PAGE_BYTES), PAGE_TOKENS, **settings)


def filled(
    cache: PrefixCache, user: int | str, request: str, *, now: float = 0.0, tokens: int = 16, content: bytes = b"1"
) -> Entry:
    entry = cache.reserve(key(user), content, tokens, request, now, WINDOW)
    assert entry is not None
    cache.begin_fill(entry)
    cache.end_fill(entry)
    return entry


class Machine:
    """Random orders of everything that can happen to a cache, against what it promised and what it handed out."""

    def __init__(self, *, evict_oldest: bool) -> None:
        self.cache = cache(evict_oldest=evict_oldest)
        self.now = 0.0
        self.requests = 0
        self.promised: dict[Entry, dict[str, float]] = {}
        self.filling: list[Entry] = []
        self.pinned: list[Entry] = []
        self.seen: list[Entry] = []

    def step(self, action: int, which: int, size: int) -> None:
        user, self.requests = which % 9, self.requests + 1
        request, content = f"r{self.requests}", b"2" if size % 11 == 0 else b"1"
        entry = self.cache.get(key(user), content)
        match action % 10:
            case 0 | 1 | 2:
                if entry is not None:
                    self.cache.touch(entry, request, self.now, WINDOW)
                else:
                    self._drop_promises_of(user)
                    entry = self.cache.reserve(key(user), content, 1 + size % 40, request, self.now, WINDOW)
                    if entry is not None:
                        self.seen.append(entry)
                if entry is not None:
                    self.promised.setdefault(entry, {})[request] = self.now + WINDOW
            case 3:
                if entry is not None and entry.state is State.RESERVED:
                    self.cache.begin_fill(entry)
                    self.filling.append(entry)
            case 4:
                if self.filling:
                    self.cache.end_fill(self.filling.pop(which % len(self.filling)))
            case 5:
                if self.filling:
                    failed = self.filling.pop(which % len(self.filling))
                    self.promised.pop(failed, None)
                    self.cache.kill(failed)
                    self.cache.unpin(failed)
            case 6:
                if entry is not None and entry.state in (State.READY, State.SPENT):
                    self.cache.pin(entry)
                    self.pinned.append(entry)
            case 7:
                if self.pinned:
                    read = self.pinned.pop(which % len(self.pinned))
                    asked = next(iter(self.promised.get(read, {})), None)
                    self.cache.unpin(read, asked)
                    self.promised.get(read, {}).pop(asked or "", None)
            case 8:
                self.now += size / 64
                self.cache.expire(self.now)
            case 9:
                if entry is not None:
                    asked = next(iter(self.promised.get(entry, {})), "")
                    self.cache.forget(entry, asked)
                    self.promised.get(entry, {}).pop(asked, None)

    def check(self) -> None:
        held = [entry for entry in self.seen if entry.pages]
        pages = [page for entry in held for page in entry.pages]
        assert len(set(pages)) == len(pages), "a page belongs to two prefixes"
        assert self.cache.reserved_bytes == len(pages) * PAGE_BYTES <= self.cache.capacity_bytes
        assert self.cache.arena.free + len(pages) == PAGES
        assert 0 <= self.cache.free_bytes <= self.cache.capacity_bytes
        for entry in [*self.pinned, *self.filling]:
            assert entry.pages, "freed while somebody reads or writes it"
        for entry, requests in self.promised.items():
            alive = [until for until in requests.values() if until > self.now]
            assert entry.pages or not alive or entry.state is State.DEAD, "freed although it was promised"
        self.promised = {entry: requests for entry, requests in self.promised.items() if entry.pages}
        self.seen = held

    def _drop_promises_of(self, user: int) -> None:
        for entry in [each for each in self.promised if each.key == key(user)]:
            del self.promised[entry]


def run(stream: bytes, *, evict_oldest: bool = False) -> None:
    machine = Machine(evict_oldest=evict_oldest)
    for action, which, size in steps(stream):
        machine.step(action, which, size)
        machine.check()


def steps(stream: bytes) -> Iterator[tuple[int, int, int]]:
    return zip(stream[::3], stream[1::3], stream[2::3], strict=False)


@MACHINE
@given(STREAMS)
def test_no_order_of_events_breaks_the_bound_or_a_promise(stream: bytes) -> None:
    run(stream)


def test_the_usual_lru_cache_breaks_promises() -> None:
    @settings(max_examples=200, database=None, derandomize=True, phases=[Phase.generate])
    @given(STREAMS)
    def machine(stream: bytes) -> None:
        run(stream, evict_oldest=True)

    with pytest.raises(AssertionError, match="although it was promised"):
        machine()


def test_a_promised_prefix_makes_the_next_reservation_fail() -> None:
    full = cache(pages=8)
    filled(full, "a", "1")
    filled(full, "b", "2")
    assert full.reserve(key("c"), b"1", 4, "3", 1.0, WINDOW) is None
    assert full.get(key("a"), b"1") is not None and full.get(key("b"), b"1") is not None


def test_space_comes_first_from_copied_then_used_then_expired_prefixes() -> None:
    small = cache(pages=12)
    expired, used, copied = filled(small, "expired", "1"), filled(small, "used", "2"), filled(small, "copied", "3")
    for entry, request in ((used, "2"), (copied, "3")):
        small.pin(entry)
        small.unpin(entry, request)
    small.mark_copied(copied)
    small.expire(WINDOW)
    freed = []
    for number, entry in enumerate((copied, used, expired)):
        filled(small, f"new-{number}", f"n{number}", now=WINDOW)
        freed.append(entry.state is State.FREED)
        assert sum(each.state is State.FREED for each in (copied, used, expired)) == number + 1
    assert freed == [True, True, True]


def test_a_prefix_in_use_outlives_its_window() -> None:
    small = cache(pages=4)
    entry = filled(small, "a", "1")
    small.pin(entry)
    small.expire(WINDOW + 1)
    assert small.reserve(key("b"), b"1", 4, "2", WINDOW + 1, WINDOW) is None
    small.unpin(entry, "1")
    assert small.reserve(key("b"), b"1", 4, "2", WINDOW + 1, WINDOW) is not None


def test_two_requests_are_promised_a_prefix_and_the_first_does_not_spend_it() -> None:
    small = cache(pages=4)
    entry = filled(small, "a", "1")
    small.touch(entry, "2", 1.0, WINDOW)
    small.pin(entry)
    small.unpin(entry, "1")
    assert entry.state is State.READY
    assert small.reserve(key("b"), b"1", 4, "3", 1.0, WINDOW) is None
    small.pin(entry)
    small.unpin(entry, "2")
    assert entry.state is State.SPENT


def test_a_spent_prefix_that_is_wanted_again_is_promised_anew() -> None:
    small = cache(pages=4)
    entry = filled(small, "a", "1")
    small.pin(entry)
    small.unpin(entry, "1")
    small.touch(entry, "2", 3.0, WINDOW)
    assert small.reserve(key("b"), b"1", 4, "3", 3.0 + WINDOW - 0.1, WINDOW) is None
    assert small.reserve(key("b"), b"1", 4, "3", 3.0 + WINDOW, WINDOW) is not None


def test_another_content_kills_the_old_prefix_but_not_under_a_reader() -> None:
    small = cache()
    old = filled(small, "a", "1")
    small.pin(old)
    new = filled(small, "a", "2", content=b"2")
    assert small.get(key("a"), b"1") is None and small.get(key("a"), b"2") is new
    assert old.state is State.DEAD and old.pages
    small.unpin(old, "1")
    assert old.state is State.FREED and not old.pages


def test_a_shorter_window_does_not_end_older_promises_first() -> None:
    small = cache()
    filled(small, "a", "1", now=0.0)
    entry = small.reserve(key("b"), b"1", 4, "2", 1.0, 0.5)
    assert entry is not None and entry.deadline == WINDOW


def test_neighbouring_free_pages_become_one_run_again() -> None:
    arena = PageArena(10 * PAGE_BYTES, PAGE_BYTES)
    first, second, third = arena.take(3), arena.take(4), arena.take(3)
    assert first and second and third and arena.take(1) is None
    arena.give(first)
    arena.give(third)
    assert arena.take(5) == (0, 1, 2, 7, 8)
    arena.give((0, 1, 2, 7, 8))
    arena.give(second)
    assert arena.take(10) == tuple(range(10))


def test_a_cache_without_room_for_a_page_is_refused() -> None:
    from recascade.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="capacity_mib"):
        PageArena(PAGE_BYTES - 1, PAGE_BYTES)
