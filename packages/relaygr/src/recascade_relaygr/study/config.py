"""What the study asks and how long it looks. Importable without numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recascade.contracts.checks import check_at_least, check_choice, check_within

EXPERIMENTS = (
    "length",
    "history",
    "reuse",
    "slack",
    "cache",
    "host-memory",
    "mixed",
    "arms",
    "bursts",
    "instances",
    "loss",
    "faults",
)


@dataclass
class StudyConfig:
    """Settings of ``recascade relaygr study``, beside ``workload.…`` and ``relay.…``.

    Attributes:
        experiments: which ones; all.
        costs: a file of measured durations (``recascade relaygr profile``); nothing for the made-up accelerator.
        seeds: of requests and durations; 3.
        warm_up_seconds: virtual seconds whose requests do not count; 5.
        seconds: virtual seconds that count; 20.
        precision: relative, of the largest load that is found; 0.05.
        step_tokens: between lengths of histories that are tried; 64.
        total_ms: limit of the whole request; 135, the project's requirement. Ranking has
            ``relay.rank_budget_ms``.
        share: of all requests that must keep both limits, over their full histories; 0.99.
        instances: of the ranking stage; 1. An instance's requests do not depend on the others, but for the router.
        processes: cells simulated at a time; 1.
    """

    experiments: list[str] = field(default_factory=lambda: list(EXPERIMENTS))
    costs: str = ""
    seeds: int = 3
    warm_up_seconds: float = 5.0
    seconds: float = 20.0
    precision: float = 0.05
    step_tokens: int = 64
    total_ms: float = 135.0
    share: float = 0.99
    instances: int = 1
    processes: int = 1

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        for name in self.experiments:
            check_choice("study.experiments", name, EXPERIMENTS)
        check_within("study.share", self.share, 0, 1)
        for key, value, least in (
            ("seeds", self.seeds, 1),
            ("warm_up_seconds", self.warm_up_seconds, 0),
            ("seconds", self.seconds, 1),
            ("precision", self.precision, 1e-4),
            ("step_tokens", self.step_tokens, 1),
            ("total_ms", self.total_ms, 0),
            ("instances", self.instances, 1),
            ("processes", self.processes, 1),
        ):
            check_at_least(f"study.{key}", value, least)


REFERENCE: dict[str, Any] = {
    "relay.executor.lanes": 4,
    "relay.cache.capacity_mib": 8192.0,
    "relay.expander.capacity_mib": 262_144.0,
    "relay.trigger.slack_ms": 40.0,
    "relay.fill_on_rank": False,
}
"""The relay of the reference setting, where it differs from the defaults, which are for a CPU: an accelerator with four
streams, 8 GiB for prefixes and 256 GiB of host memory. Prefixes are run for signals alone, so that the study shows what
these bring."""
