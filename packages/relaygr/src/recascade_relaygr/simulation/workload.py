"""Draws the requests of a simulation: when they come, whose they are, and when their ranking follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recascade_relaygr.simulation.config import WorkloadConfig

# The normal distribution's 99th percentile.
_P99 = 2.3263
# Chains of visits begin this many mean lengths before the simulation, so that its beginning is like its middle.
_MEMORY = 6.0

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Visit(NamedTuple):
    """A user was here, at a time before the simulation, with a history of some tokens."""

    time: float
    user: int
    tokens: int


@dataclass(frozen=True)
class Workload:
    """Requests in the order of their arrival.

    Attributes:
        times: float64 ``[N]``, seconds of virtual time, not negative.
        users: int64 ``[N]``.
        tokens: int64 ``[N]``, lengths of the long-term histories.
        slacks: float64 ``[N]``, seconds from arrival to ranking request.
        signal_hops: float64 ``[N]``, seconds that the signal travels.
        rank_hops: float64 ``[N]``, seconds that the ranking request travels, and as many its answer.
        earlier_times: float64 ``[E]``, ascending and negative: visits before the simulation.
        earlier_users: int64 ``[E]``.
        earlier_tokens: int64 ``[E]``.
    """

    times: Floats
    users: Integers
    tokens: Integers
    slacks: Floats
    signal_hops: Floats
    rank_hops: Floats
    earlier_times: Floats
    earlier_users: Integers
    earlier_tokens: Integers

    def last_visits(self, tokens: int) -> Iterator[Visit]:
        """Each user's last earlier visit, in the order of time; of the oldest ones only those that matter to memories
        of so many tokens, with a quarter more because they are not filled evenly."""
        newest_first = np.unique(self.earlier_users[::-1], return_index=True)[1]
        last = np.sort(len(self.earlier_users) - 1 - newest_first)
        behind = np.cumsum(self.earlier_tokens[last][::-1])[::-1]
        last = last[behind <= 1.25 * tokens]
        columns = (self.earlier_times, self.earlier_users, self.earlier_tokens)
        return map(Visit, *(column[last].tolist() for column in columns))


def draw_workload(
    config: WorkloadConfig,
    *,
    instances: int,
    seconds: float,
    history: float,
    seed: int,
    gaps: Floats | None = None,
) -> Workload:
    """Poisson arrivals, or bursts of them; users who come back do so after a log-normal gap.

    Each visit is followed by another one of the same user with probability ``reuse``, so that in the long run this
    share of all requests are returns.

    Args:
        config: of the traffic.
        instances: how many share it; ``config.rate`` is of one.
        seconds: of virtual time.
        history: seconds before it of which visits are wanted.
        seed: of all draws.
        gaps: float64 ``[G]``, seconds between visits to draw from, in place of the log-normal ones.
    """
    generator = np.random.default_rng(seed)
    mean_gap = config.gap_seconds * math.exp(config.gap_sigma**2 / 2) if gaps is None else float(gaps.mean())
    start = -history - _MEMORY * mean_gap / (1 - config.reuse) * (config.reuse > 0)
    fresh_rate = config.rate * instances * (1 - config.reuse)
    times, users = _visits(config, generator, fresh_rate, start, seconds, gaps)
    times = _in_bursts(config, times)
    order = np.argsort(times, kind="stable")
    times, users = times[order], users[order]
    tokens = _lengths(config, generator, users)
    now = times >= 0
    before = (times < 0) & (times >= -history)
    count = int(now.sum())
    slacks = config.slack_ms * generator.lognormal(0.0, config.slack_sigma, count)
    return Workload(
        times=times[now],
        users=users[now],
        tokens=tokens[now],
        slacks=np.maximum(slacks, config.least_slack_ms) / 1e3,
        signal_hops=_hops(config, generator, count),
        rank_hops=_hops(config, generator, count),
        earlier_times=times[before],
        earlier_users=users[before],
        earlier_tokens=tokens[before],
    )


def _visits(
    config: WorkloadConfig,
    generator: np.random.Generator,
    fresh_rate: float,
    start: float,
    end: float,
    gaps: Floats | None,
) -> tuple[Floats, Integers]:
    """Times and users of all visits between start and end, generation by generation of returns."""
    count = int(generator.poisson(fresh_rate * (end - start)))
    times = generator.uniform(start, end, count)
    users = np.arange(count)
    all_times, all_users = [times], [users]
    while len(times):
        back = generator.random(len(times)) < config.reuse
        waits = _gaps(config, generator, int(back.sum()), gaps)
        times, users = times[back] + waits, users[back]
        times, users = times[times < end], users[times < end]
        all_times.append(times)
        all_users.append(users)
    return np.concatenate(all_times), np.concatenate(all_users)


def _gaps(config: WorkloadConfig, generator: np.random.Generator, count: int, gaps: Floats | None) -> Floats:
    if gaps is not None:
        return generator.choice(gaps, count)
    drawn: Floats = config.gap_seconds * generator.lognormal(0.0, config.gap_sigma, count)
    return drawn


def _in_bursts(config: WorkloadConfig, times: Floats) -> Floats:
    """Stretch time so that visits crowd into the bursts and their mean rate stays."""
    if config.burst == 1.0 or not len(times):
        return times
    period, length = config.burst_every_seconds, config.burst_seconds
    # Expected visits since the period began, in units of the mean rate, at the end of its burst.
    crowd = config.burst * length / (config.burst * length + period - length) * period
    begun = np.floor(times / period) * period
    return begun + np.interp(times - begun, [0.0, crowd, period], [0.0, length, period])


def _lengths(config: WorkloadConfig, generator: np.random.Generator, users: Integers) -> Integers:
    """A user's history is as long on every visit."""
    count = int(users.max()) + 1 if len(users) else 0
    long = generator.random(count) < config.long_share
    lengths: Integers = np.where(long, config.prefix_tokens, config.short_tokens).astype(np.int64)[users]
    return lengths


def _hops(config: WorkloadConfig, generator: np.random.Generator, count: int) -> Floats:
    sigma = math.log(config.slow_hop_ms / config.hop_ms) / _P99
    hops: Floats = config.hop_ms / 1e3 * generator.lognormal(0.0, sigma, count)
    return hops
