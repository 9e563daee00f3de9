"""The prefix cache: memory is reserved before it is filled, and what was promised is never evicted.

``RESERVED → FILLING → READY → SPENT → FREED``, and any state ``→ DEAD → FREED`` on failure. An entry with pins is being
read, filled or copied, and is never freed. That a prefix stays in accelerator memory over the lifecycle of its request
within a bounded footprint is the paper's; states, reservation and order of eviction are our design.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Any

from recascade_relaygr.relay.arena import PageArena
from recascade_relaygr.relay.requests import PrefixKey


class State(Enum):
    """Where an entry stands in its life."""

    RESERVED = "reserved"
    FILLING = "filling"
    READY = "ready"
    SPENT = "spent"
    DEAD = "dead"
    FREED = "freed"


class Entry:
    """One prefix.

    Attributes:
        key: whose.
        fingerprint: of its content.
        tokens: its length.
        pages: of the arena; empty once freed.
        state: see ``State``.
        deadline: clock time until which it is promised.
        expected: requests that were promised it and have not come.
        pins: readers, fillers and copiers at work.
        used: whether a request was answered on it.
        copied: whether host memory holds the same content.
        fill: the work that fills it; opaque to the cache.
        queue: where it stands in line; the cache's own affair.
    """

    __slots__ = (
        "copied",
        "deadline",
        "expected",
        "fill",
        "fingerprint",
        "key",
        "pages",
        "pins",
        "queue",
        "state",
        "tokens",
        "used",
    )

    def __init__(self, key: PrefixKey, fingerprint: bytes, tokens: int, pages: tuple[int, ...]) -> None:
        self.key = key
        self.fingerprint = fingerprint
        self.tokens = tokens
        self.pages = pages
        self.state = State.RESERVED
        self.deadline = 0.0
        self.expected: set[str] = set()
        self.pins = 0
        self.used = False
        self.copied = False
        self.fill: Any = None
        self.queue: OrderedDict[PrefixKey, Entry] | None = None


class PrefixCache:
    """Entries by key, with a bound on their bytes that holds after every call by construction.

    Promised entries stand in a queue in the order of their deadlines: all windows are about equally long and deadlines
    never go back, so that the order of admission is the order of expiry. When space is wanted, what host memory holds
    too is freed first, then what was used, then what was never asked for in its window. Nothing else is freed: where
    that is not enough, the reservation is refused.

    Args:
        arena: where pages come from.
        page_tokens: tokens of a page.
        evict_oldest: free unpinned entries by last use, promised or not: the usual LRU cache, to compare with.
        on_spent: told of each entry that nobody was promised any more, so that it may be copied to host memory.
    """

    def __init__(
        self,
        arena: PageArena,
        page_tokens: int,
        *,
        evict_oldest: bool = False,
        on_spent: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        self.arena = arena
        self.page_tokens = page_tokens
        self.evict_oldest = evict_oldest
        self.on_spent = on_spent
        self._entries: dict[PrefixKey, Entry] = {}
        self._promised: OrderedDict[PrefixKey, Entry] = OrderedDict()
        self._copied: OrderedDict[PrefixKey, Entry] = OrderedDict()
        self._used: OrderedDict[PrefixKey, Entry] = OrderedDict()
        self._expired: OrderedDict[PrefixKey, Entry] = OrderedDict()
        self._last_deadline = 0.0
        self._reclaimable = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of all pages handed out."""
        return self.arena.used_bytes

    @property
    def capacity_bytes(self) -> int:
        """The bound."""
        return self.arena.pages * self.arena.page_bytes

    @property
    def free_bytes(self) -> int:
        """What a reservation could have now: free pages, and those of entries that may be freed."""
        return (self.arena.free + self._reclaimable) * self.arena.page_bytes

    @property
    def entries(self) -> list[Entry]:
        """All live entries."""
        return list(self._entries.values())

    @property
    def next_deadline(self) -> float | None:
        """Clock time at which the next promise ends; None where nothing is promised."""
        first = next(iter(self._promised.values()), None)
        return None if first is None else first.deadline

    def bytes_of(self, tokens: int) -> int:
        """Bytes that a prefix of this length reserves."""
        return -(-tokens // self.page_tokens) * self.arena.page_bytes

    def get(self, key: PrefixKey, fingerprint: bytes) -> Entry | None:
        """The live entry of this content; another content under the key is no entry."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.fingerprint == fingerprint else None

    def reserve(
        self, key: PrefixKey, fingerprint: bytes, tokens: int, request: str, now: float, window: float
    ) -> Entry | None:
        """Room for a prefix that is promised to a request until ``now + window``; None where there is none.

        An entry of the same key is killed: its content is another one.
        """
        self.expire(now)
        stale = self._entries.get(key)
        if stale is not None:
            self.kill(stale)
        wanted = self.bytes_of(tokens)
        if wanted > self.free_bytes:
            return None
        while wanted > self.arena.free * self.arena.page_bytes:
            self._free_next()
        pages = self.arena.take(wanted // self.arena.page_bytes)
        if pages is None:
            return None
        entry = Entry(key, fingerprint, tokens, pages)
        self._entries[key] = entry
        self._promise(entry, request, now, window)
        return entry

    def touch(self, entry: Entry, request: str, now: float, window: float) -> None:
        """Promise a live entry to one more request; its window begins anew."""
        if entry.state is State.SPENT:
            entry.state = State.READY
        self._promise(entry, request, now, window)

    def begin_fill(self, entry: Entry) -> None:
        """The device begins to write the entry's pages."""
        entry.state = State.FILLING
        entry.pins += 1

    def end_fill(self, entry: Entry) -> None:
        """The pages hold the prefix."""
        if entry.state is State.FILLING:
            entry.state = State.READY
        self.unpin(entry)

    def pin(self, entry: Entry) -> None:
        """Somebody is going to read the pages."""
        entry.pins += 1
        if entry.queue is not self._promised:
            self._move(entry, None)

    def unpin(self, entry: Entry, answered: str | None = None) -> None:
        """Somebody has read the pages, to answer a request where one is named; the last one promised spends the
        entry."""
        entry.pins -= 1
        if answered is not None:
            entry.used = True
            entry.expected.discard(answered)
        if entry.state is State.DEAD:
            self._free_if_unread(entry)
        else:
            self._settle(entry)

    def forget(self, entry: Entry, request: str) -> None:
        """A request that was promised the entry will not use it."""
        entry.expected.discard(request)
        self._settle(entry)

    def mark_copied(self, entry: Entry) -> None:
        """Host memory holds the same content now."""
        entry.copied = True
        if entry.queue is self._used or entry.queue is self._expired:
            self._settle(entry)

    def kill(self, entry: Entry) -> None:
        """The entry is of no use (failed, or its content has changed); its pages are freed when nobody reads them."""
        if entry.state in (State.DEAD, State.FREED):
            return
        self._move(entry, None)
        del self._entries[entry.key]
        entry.state = State.DEAD
        entry.expected.clear()
        self._free_if_unread(entry)

    def expire(self, now: float) -> None:
        """End the promises whose windows are over."""
        while self._promised:
            entry = next(iter(self._promised.values()))
            if entry.deadline > now:
                return
            self._move(entry, None)
            entry.expected.clear()
            if entry.state is State.RESERVED:
                self.kill(entry)
            else:
                self._settle(entry)

    def _promise(self, entry: Entry, request: str, now: float, window: float) -> None:
        self._last_deadline = max(self._last_deadline, now + window)
        entry.deadline = self._last_deadline
        entry.expected.add(request)
        self._move(entry, self._promised)
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Let an entry that nobody reads stand where its state belongs."""
        if entry.pins or entry.state not in (State.READY, State.SPENT):
            return
        newly = entry.state is State.READY and not entry.expected
        if newly:
            entry.state = State.SPENT
        if self.evict_oldest:
            self._move(entry, self._used)
        elif not entry.expected:
            self._move(entry, self._copied if entry.copied else self._used if entry.used else self._expired)
        if newly:
            self.on_spent(entry)

    def _move(self, entry: Entry, queue: OrderedDict[PrefixKey, Entry] | None) -> None:
        """Leave the queue that the entry stands in and go to the end of another one."""
        if entry.queue is not None:
            del entry.queue[entry.key]
            if entry.queue is not self._promised:
                self._reclaimable -= len(entry.pages)
        entry.queue = queue
        if queue is not None:
            queue[entry.key] = entry
            if queue is not self._promised:
                self._reclaimable += len(entry.pages)

    def _free_next(self) -> None:
        queue = self._copied or self._used or self._expired
        self.kill(next(iter(queue.values())))

    def _free_if_unread(self, entry: Entry) -> None:
        if not entry.pins:
            entry.state = State.FREED
            self.arena.give(entry.pages)
            entry.pages = ()
