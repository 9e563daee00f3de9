"""How much load, or how long a history, a setting bears while nearly all requests get what they were promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from recascade_relaygr.simulation.answers import Answers, Objective, Summary, summarise
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.setting import Setting
from recascade_relaygr.simulation.simulator import Simulation
from recascade_relaygr.simulation.workload import draw_workload

_SLICE_SECONDS = 1.0
_LEAST_RATE = 0.5
_MOST_RATE = 20_000.0


@dataclass(frozen=True)
class Timing:
    """How long a setting is tried.

    Attributes:
        warm_up: virtual seconds whose requests do not count.
        seconds: virtual seconds that count.
    """

    warm_up: float = 10.0
    seconds: float = 60.0

    @property
    def end(self) -> float:
        """Virtual time at which requests stop coming."""
        return self.warm_up + self.seconds


@dataclass(frozen=True)
class Trial:
    """One simulation of a setting.

    Attributes:
        summary: its figures; None where it was given up because too many requests had already missed the objective.
        simulation: with everything else to look at.
    """

    summary: Summary | None
    simulation: Simulation

    def keeps(self, objective: Objective) -> bool:
        """Whether the objective was kept."""
        return self.summary is not None and self.summary.kept >= objective.share


def try_setting(
    setting: Setting,
    workload: WorkloadConfig,
    objective: Objective,
    timing: Timing,
    seed: int,
    *,
    give_up: bool = False,
) -> Trial:
    """Simulate a setting under a workload.

    Args:
        setting: what is simulated.
        workload: of each instance.
        objective: what is to be kept.
        timing: for how long.
        seed: of requests and durations.
        give_up: stop as soon as it is certain that the objective is missed.
    """
    seconds = setting.relay.expander.seconds if setting.relay.expander.enabled and setting.arm.stored else 0.0
    requests = draw_workload(workload, instances=setting.instances, seconds=timing.end, history=seconds, seed=seed)
    simulation = Simulation(setting, requests, seed)
    if give_up:
        counted = int((requests.times >= timing.warm_up).sum())
        first = simulation.offered - counted
        allowed = (1 - objective.share) * counted
        missed = seen = 0
        time = 0.0
        while time < timing.end:
            time += _SLICE_SECONDS
            simulation.run_until(time)
            missed += _missed(simulation.answers, seen, first, objective)
            seen = len(simulation.answers.numbers)
            if missed > allowed:
                return Trial(None, simulation)
    simulation.finish()
    summary = summarise(simulation.answers, requests.times, requests.tokens, timing.warm_up, objective)
    return Trial(summary, simulation)


def most_load(
    setting: Setting, workload: WorkloadConfig, objective: Objective, timing: Timing, seed: int, *, precision: float
) -> float:
    """Requests per second and instance that the setting bears: SLO-compliant throughput; 0 where it bears none.

    Args:
        setting: what is simulated.
        workload: of each instance; its rate is where the search begins.
        objective: what is to be kept.
        timing: of each trial.
        seed: of requests and durations.
        precision: relative; the search ends when it is reached.
    """

    @cache
    def keeps(rate: float) -> bool:
        trial = try_setting(setting, replace(workload, rate=rate), objective, timing, seed, give_up=True)
        return trial.keeps(objective)

    low = workload.rate
    # A relay may miss its objective by a hair where requests are only just not at risk, and keep it under more load.
    if keeps(low) or keeps(2 * low):
        while low < _MOST_RATE and keeps(2 * low):
            low *= 2
    else:
        low /= 2
        while not keeps(low):
            if low < _LEAST_RATE:
                return 0.0
            low /= 2
    high = 2 * low
    while high / low > 1 + precision:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def longest_history(
    setting: Setting, workload: WorkloadConfig, objective: Objective, timing: Timing, seed: int, *, step: int, most: int
) -> int:
    """Tokens of the longest history that all users may have at the workload's rate; 0 where none may.

    Args:
        setting: what is simulated.
        workload: of each instance; every history has the length that is tried.
        objective: what is to be kept.
        timing: of each trial.
        seed: of requests and durations.
        step: tokens between lengths.
        most: tokens of the longest one tried.
    """

    def keeps(length: int) -> bool:
        tried = replace(workload, prefix_tokens=length * step)
        return try_setting(setting, tried, objective, timing, seed, give_up=True).keeps(objective)

    return step * _last(keeps, most // step)


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The greatest number up to ``most`` for which it holds, given that it holds for all smaller ones; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _missed(answers: Answers, seen: int, first: int, objective: Objective) -> int:
    """Answers from the ``seen``-th on, of requests that count, that came too late."""
    return sum(
        number >= first and (served > objective.rank_seconds or total > objective.total_seconds)
        for number, served, total in zip(
            answers.numbers[seen:], answers.served[seen:], answers.total[seen:], strict=True
        )
    )
