"""What travels between the retrieval stage, the relay and the ranking stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from recascade.errors import RecascadeError

Path = Literal["relay", "relay_joined", "relay_reload", "full", "degraded"]
"""How an answer came about: on a prefix that was waiting; on one that was still being run or reloaded when the request
came; on one that the request itself reloaded; by full inference; by full inference over a shortened history."""

PATHS: tuple[Path, ...] = ("relay", "relay_joined", "relay_reload", "full", "degraded")


class PrefixKey(NamedTuple):
    """Whose prefix, under which weights: states of other weights are never mixed in."""

    version: str
    user: str


class Sizes(NamedTuple):
    """The light metadata by which costs are predicted."""

    prefix: int
    recent: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Asks an instance to run a prefix ahead of time. May be lost, late, repeated or out of order.

    Attributes:
        request: identifier of the ranking request that it announces.
        key: whose prefix.
        fingerprint: of the prefix's content; states of another content are not used.
        tokens: length of the prefix.
        deadline: clock time after which nobody will want it.
        payload: what the device needs to run it; opaque to the relay.
    """

    request: str
    key: PrefixKey
    fingerprint: bytes
    tokens: int
    deadline: float
    payload: Any = None


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Asks an instance for the scores of candidates.

    Attributes:
        request: identifier, as in the signal.
        key: whose prefix.
        fingerprint: of the prefix's content.
        sizes: tokens of prefix and recent events, and candidates.
        deadline: clock time by which the answer is wanted.
        payload: what the device needs to answer it in full; opaque to the relay.
        relay: False forbids every use of stored prefixes (the owner is gone, or the request is not a long one).
    """

    request: str
    key: PrefixKey
    fingerprint: bytes
    sizes: Sizes
    deadline: float
    payload: Any = None
    relay: bool = True


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the trigger decided; it travels with the request to the ranking stage.

    Attributes:
        request: identifier.
        key: whose prefix.
        fingerprint: of the prefix's content.
        admitted: whether a signal was sent.
        reason: why, in one word; counted by the statistics.
        owner: the instance that got the signal, and must get the ranking request; empty where none was sent.
        epoch: of the ring when the owner was chosen.
        prefix_tokens: events of the prefix that ranking can afford; fewer than the history has where even the relay
            would not fit the budget.
        issued: clock time.
        start: first event of the history that is read, counted from its oldest.
    """

    request: str
    key: PrefixKey
    fingerprint: bytes
    admitted: bool
    reason: str
    owner: str
    epoch: int
    prefix_tokens: int
    issued: float
    start: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a ranking request.

    Attributes:
        path: how it came about.
        result: the device's scores of all candidates.
        prefix_tokens: events of the prefix that the scores know of.
        queued: seconds of waiting for a lane, for the ranking or for the prefix that it waited for; the device working
            for that prefix is no wait.
        served: seconds from the request's arrival at the instance to its answer.
        error: the device's failure where even the last resort failed; then there is no result.
    """

    path: Path
    result: Any
    prefix_tokens: int
    queued: float
    served: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class OwnerLoad:
    """What an instance tells of itself.

    Attributes:
        rank_queue: seconds until a ranking request that came now would begin.
        rank_delay: 99th percentile of the seconds that ranking requests waited lately.
        fill_queue: seconds of device time that prefixes wait for.
        free_bytes: of the prefix cache, what could be reserved now.
        capacity_bytes: of the prefix cache.
        measured: clock time.
    """

    rank_queue: float
    rank_delay: float
    fill_queue: float
    free_bytes: int
    capacity_bytes: int
    measured: float


class InstanceGoneError(RecascadeError):
    """The instance has left the service; another one must answer."""
