"""The HTTP side of an engine: names in, scores out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from time import monotonic
from typing import Any, Literal

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.serving.http import Route
from recascade.serving.metrics import Metrics
from recascade.serving.parameters import RequestError, check_names, text, texts, whole_number
from recascade_relaygr.engine.front import Engine
from recascade_relaygr.engine.host import EngineHost
from recascade_relaygr.relay.requests import PATHS, Ticket
from recascade_relaygr.run_folder import ServedRun, request_of
from recascade_relaygr.serve_config import ServeConfig

_FOLLOWED: tuple[tuple[Literal["counter", "gauge"], str, str], ...] = (
    ("gauge", "prefix_bytes", "Reserved bytes of the prefix caches."),
    ("gauge", "copy_bytes", "Bytes of copies in host memory."),
    ("counter", "fill_seconds", "Seconds of lane time for prefixes."),
)
_USUAL_CANDIDATES = 100
_MOST_EVENTS = 65_536
_LATEST_TIME = 1 << 40
_SCRAPE_SECONDS = 0.1


class RelayService:
    """``POST /hint``, ``POST /rank`` and ``GET /stats``.

    Args:
        run: what was trained.
        host: of the engine.
        config: bounds of what may be asked.
    """

    def __init__(self, run: ServedRun, host: EngineHost[Engine], config: ServeConfig) -> None:
        self.run = run
        self.host = host
        self.config = config
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._lock = Lock()

    def routes(self) -> list[Route]:
        """What can be asked."""
        return [
            Route("POST", "/hint", self._hint),
            Route("POST", "/rank", self._rank),
            Route("GET", "/stats", self._stats),
        ]

    def health(self) -> dict[str, Any]:
        """What answers come from."""
        engine = self.host.engine
        return {
            "users": len(self.run.histories),
            "items": len(self.run.items),
            "version": self.run.version,
            "instances": len(engine.router.members),
            "prefix_error": engine.prefix_error,
        }

    def follow(self, metrics: Metrics) -> None:
        """Publish answers by path, the bytes of prefixes and of copies, and the time that fills take."""
        latest: dict[str, Any] = {}
        until = 0.0

        def snapshot() -> dict[str, Any]:
            # All numbers of one scrape are of one moment, and the engine is asked once for them.
            nonlocal latest, until
            if monotonic() >= until:
                latest, until = self._all(), monotonic() + _SCRAPE_SECONDS
            return latest

        for path in PATHS:

            def answers(path: str = path) -> float:
                return float(snapshot()["paths"].get(path, 0))

            metrics.follow("counter", f"recascade_relay_answers_{path}", f"Answers by path: {path}.", answers)
        for kind, name, description in _FOLLOWED:

            def read(name: str = name) -> float:
                return float(snapshot()[name])

            metrics.follow(kind, f"recascade_relay_{name}", description, read)

    def close(self) -> None:
        """Stop the engine."""
        self.host.close()

    def _hint(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "candidates", "history", "timestamps", "now"))
        user, history = text(values, "user"), self._history(values)
        candidates = whole_number(
            values, "candidates", min(_USUAL_CANDIDATES, self.config.candidates), 1, self.config.candidates
        )
        ticket = self.host.call(self.host.engine.hint, user, history, candidates)
        with self._lock:
            self._tickets[ticket.request] = ticket
            while len(self._tickets) > self.config.remembered:
                self._tickets.popitem(last=False)
        return {"ticket": ticket.request, "admitted": ticket.admitted, "reason": ticket.reason, "owner": ticket.owner}

    def _rank(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "items", "ticket", "history", "timestamps", "now"))
        user, names = text(values, "user"), texts(values, "items", self.config.candidates)
        items, history = self._numbers("items", names), self._history(values)
        ticket = self._ticket(values, user)
        answer = self.host.wait(self.host.engine.rank(user, history, items, ticket))
        scores: Tensor = answer.scores
        return {
            "items": names,
            "scores": scores.tolist(),
            "path": answer.path,
            "events": answer.events,
            "milliseconds": answer.milliseconds,
            "version": self.run.version,
        }

    def _stats(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ())
        return self._all()

    def _all(self) -> dict[str, Any]:
        return self.host.call(self.host.engine.stats)

    def _ticket(self, values: Mapping[str, Any], user: str) -> Ticket | None:
        """The ticket that is named, once; a forgotten one is as good as none."""
        if "ticket" not in values:
            return None
        name = text(values, "ticket")
        with self._lock:
            ticket = self._tickets.get(name)
            if ticket is not None and ticket.key.user != user:
                raise RequestError(f"The ticket {name!r} was made for another user than {user!r}.")
            return self._tickets.pop(name, None)

    def _history(self, values: Mapping[str, Any]) -> Context:
        """The history of the request, or the user's in the log; nobody's is empty."""
        now = whole_number(values, "now", 0, 0, _LATEST_TIME) or None
        if "history" not in values:
            if "timestamps" in values:
                raise RequestError("The parameter 'timestamps' belongs to 'history', which is missing.")
            known = self.run.histories.get(text(values, "user"))
            history = known if known is not None else request_of([], [])
            return history if now is None else request_of(history.items.tolist(), history.timestamps.tolist(), now)
        if values["history"] == []:
            return request_of([], [], now)
        numbers = self._numbers("history", texts(values, "history", _MOST_EVENTS))
        times = values.get("timestamps", [0] * len(numbers))
        whole = isinstance(times, list) and all(
            isinstance(time, int) and not isinstance(time, bool) and 0 <= time <= _LATEST_TIME for time in times
        )
        if not whole or len(times) != len(numbers) or times != sorted(times):
            raise RequestError(
                f"The parameter 'timestamps' must be a list of {len(numbers)} whole numbers of seconds, oldest first."
            )
        return request_of(numbers.tolist(), times, now)

    def _numbers(self, parameter: str, names: list[str]) -> Tensor:
        numbers = [self.run.items.get(name, -1) for name in names]
        if -1 in numbers:
            unknown = names[numbers.index(-1)]
            raise RequestError(f"The parameter {parameter!r} names {unknown!r}, which is no item of this run.")
        return torch.tensor(numbers, dtype=torch.int64)
