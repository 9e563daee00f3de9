"""When which user asks for what: decided before the first request, so that slow answers change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade_relaygr.load.config import LoadConfig
from recascade_relaygr.load.think_times import think_times
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.workload import draw_workload

# A chain of visits that hardly ever ends would take for ever to draw.
_MOST_RETURNS = 0.95


class Visit(NamedTuple):
    """One request.

    Attributes:
        time: seconds after the load has begun.
        user: who asks.
        slack: seconds from the hint to the ranking request.
        items: candidates, by name.
    """

    time: float
    user: str
    slack: float
    items: list[str]


def plan(config: LoadConfig, histories: Mapping[str, Context], items: list[str]) -> list[Visit]:
    """All requests, in the order of time.

    Args:
        config: of the load.
        histories: user → the events of the log.
        items: the catalogue, from which candidates are drawn uniformly.

    Raises:
        ConfigurationError: no user has so long a history, or there are not so many items.
    """
    users = [user for user, history in histories.items() if history.items.numel() >= config.least_events]
    if not users:
        longest = max((history.items.numel() for history in histories.values()), default=0)
        raise ConfigurationError(
            f"load.least_events is {config.least_events}, and the longest history has {longest} events."
        )
    if config.candidates > len(items):
        raise ConfigurationError(f"load.candidates is {config.candidates}, and the run knows {len(items)} items.")
    times = think_times((histories[user].timestamps.numpy() for user in users), 60 * config.session_minutes)
    workload = draw_workload(
        WorkloadConfig(
            rate=config.rate,
            reuse=min(times.share, _MOST_RETURNS),
            slack_ms=config.slack_ms,
            slack_sigma=config.slack_sigma,
            least_slack_ms=0.0,
            burst=config.burst,
            burst_seconds=config.burst_seconds,
            burst_every_seconds=config.burst_every_seconds,
        ),
        instances=1,
        seconds=config.warm_up_seconds + config.seconds,
        history=0.0,
        seed=config.seed,
        gaps=times.gaps / config.speed if len(times.gaps) else np.ones(1),
    )
    generator = np.random.default_rng([config.seed, 1])
    someone = generator.permutation(len(users))
    return [
        Visit(
            time,
            users[someone[user % len(users)]],
            slack,
            [items[k] for k in generator.choice(len(items), config.candidates, replace=False)],
        )
        for time, user, slack in zip(
            workload.times.tolist(), workload.users.tolist(), workload.slacks.tolist(), strict=True
        )
    ]
