"""What a device is asked to do. A real one computes; the simulator's lets tabulated time pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from recascade_relaygr.relay.requests import Sizes

WorkKind = Literal["prefill", "reload", "copy", "rank", "full"]


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do without a break.

    Attributes:
        kind: ``prefill`` runs tokens ``begin`` to ``end`` of a prefix into pages, on top of the tokens before;
            ``reload`` brings a copy back into pages; ``copy`` copies pages to host memory and gives the copy;
            ``rank`` gives the scores on the prefix in pages; ``full`` gives those of full inference over the newest
            ``sizes.prefix`` tokens of the prefix and everything after it.
        sizes: tokens and candidates.
        cost: predicted seconds.
        pages: of the prefix cache.
        begin: first token to run.
        end: behind the last one.
        payload: of the signal or the request; of a ``reload``, the copy.
    """

    kind: WorkKind
    sizes: Sizes
    cost: float
    pages: tuple[int, ...] = ()
    begin: int = 0
    end: int = 0
    payload: Any = None


class Device(Protocol):
    """Does several works at a time, each in a lane."""

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Begin at once; later call ``done(result, error, seconds)`` on the clock's thread, never from inside
        ``start``.

        ``seconds`` is how long the device worked.
        """
        ...
