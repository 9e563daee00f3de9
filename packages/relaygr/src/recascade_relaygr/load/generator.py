"""Sends a plan of requests and notes how long answers take, counted from when each was due."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from recascade_relaygr.load.config import LoadConfig
from recascade_relaygr.load.schedule import Visit


class Target(Protocol):
    """What is asked."""

    async def hint(self, user: str, candidates: int) -> Any:
        """Announce a request; gives its ticket."""
        ...

    async def rank(self, user: str, items: Sequence[str], ticket: Any) -> str:
        """Have candidates scored; gives the path of the answer."""
        ...


@dataclass
class LoadResult:
    """What a load has shown, of the requests after the warm-up.

    Attributes:
        offered: requests.
        seconds: from when each ranking request was due to its answer, in the order of the answers.
        paths: answers by path.
        failures: requests without an answer, by what was raised.
        lateness: seconds by which the generator itself was late with each ranking request; where its 99th percentile is
            not small, the generator was the bottleneck.
        limit: seconds that an answer may take.
    """

    limit: float
    offered: int = 0
    seconds: list[float] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lateness: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Its figures, in milliseconds where they are times."""
        taken = np.asarray(self.seconds) * 1e3
        late = np.asarray(self.lateness) * 1e3
        answered = len(taken)
        return {
            "offered": self.offered,
            "answered": answered,
            "kept": float((taken <= self.limit * 1e3).sum()) / max(self.offered, 1),
            "p50_ms": float(np.quantile(taken, 0.5)) if answered else None,
            "p99_ms": float(np.quantile(taken, 0.99)) if answered else None,
            "paths": {path: count / answered for path, count in sorted(self.paths.items())},
            "failures": dict(self.failures),
            "generator_late_p99_ms": float(np.quantile(late, 0.99)) if len(late) else None,
        }


async def run_load(target: Target, visits: Sequence[Visit], config: LoadConfig) -> LoadResult:
    """Send all requests when they are due, whatever became of those before (an open loop).

    Args:
        target: what is asked.
        visits: the plan, in the order of time.
        config: of the load.
    """
    loop = asyncio.get_running_loop()
    result = LoadResult(config.rank_ms / 1e3)
    begun = loop.time()
    tasks = set()
    for visit in visits:
        await asyncio.sleep(max(begun + visit.time - loop.time(), 0.0))
        tasks.add(loop.create_task(_request(target, visit, begun + visit.time, config, result)))
    await asyncio.gather(*tasks)
    return result


async def _request(target: Target, visit: Visit, due: float, config: LoadConfig, result: LoadResult) -> None:
    loop = asyncio.get_running_loop()
    counts = visit.time >= config.warm_up_seconds
    result.offered += counts
    rank_due = due + visit.slack
    try:
        hint = loop.create_task(target.hint(visit.user, len(visit.items))) if config.hints else None
        await asyncio.sleep(max(rank_due - loop.time(), 0.0))
        late = loop.time() - rank_due
        path = await target.rank(visit.user, visit.items, await hint if hint is not None else None)
    except Exception as error:
        result.failures[f"{type(error).__name__}: {error}"] += counts
        return
    if counts:
        result.seconds.append(loop.time() - rank_due)
        result.paths[path] += 1
        result.lateness.append(late)
