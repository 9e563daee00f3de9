"""How a service of GR4AD answers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least
from recascade.errors import ConfigurationError


@dataclass
class ServeConfig:
    """Settings of ``recascade serve gr4ad``.

    Attributes:
        beams: kept after each level at full load; one number stands for all levels, empty takes those of the run. The
            paper: 128, 256, 512.
        busy_rate: requests per second from which beams are not widened (Q_threshold); 0 never widens them.
        idle_rate: requests per second at and below which they are widest.
        widest: factor of the widest beams; 1.6, as the paper's off-peak gain of 60 %.
        hysteresis: by what share the rate must fall before beams widen again; 0.1.
        rate_seconds: over which the rate is measured; 10.
        gamma: γ of the eCPM step; null takes that of the run.
        cache_seconds: how long a list may be given to the same user again; 60 (the paper: about a minute); 0 never.
        cache_entries: lists kept at most; 100,000.
        concurrency: lists computed at a time; 2.
        wait_seconds: how long a request may wait for its turn before it gets the popular ads instead; 0.05.
        threads: requests under way at a time, those that wait included; 32.
        exclude_seen: leave out the ads of the request's own history: of the one that it brings all, of the log's the
            newest ``model.max_length``, which a run keeps.
    """

    beams: list[int] = field(default_factory=list)
    busy_rate: float = 0.0
    idle_rate: float = 0.0
    widest: float = 1.6
    hysteresis: float = 0.1
    rate_seconds: float = 10.0
    gamma: float | None = None
    cache_seconds: float = 60.0
    cache_entries: int = 100_000
    concurrency: int = 2
    wait_seconds: float = 0.05
    threads: int = 32
    exclude_seen: bool = False

    def check(self) -> None:
        """Refuse values that cannot work."""
        if self.beams:
            check_at_least("serve.beams", min(self.beams), 1)
        for name, least in (("widest", 1), ("concurrency", 1), ("threads", 1), ("cache_entries", 1)):
            check_at_least(f"serve.{name}", getattr(self, name), least)
        for name in ("busy_rate", "idle_rate", "hysteresis", "cache_seconds", "wait_seconds"):
            check_at_least(f"serve.{name}", getattr(self, name), 0)
        if self.gamma is not None:
            check_at_least("serve.gamma", self.gamma, 0)
        if self.hysteresis >= 1:
            raise ConfigurationError(
                f"serve.hysteresis is {self.hysteresis}; it must be below 1, or beams never widen again."
            )
        if not self.rate_seconds > 0:
            raise ConfigurationError(f"serve.rate_seconds is {self.rate_seconds}; it must be above 0.")
        if self.busy_rate and self.idle_rate >= self.busy_rate:
            raise ConfigurationError(
                f"serve.idle_rate is {self.idle_rate} and serve.busy_rate is {self.busy_rate}; the idle rate must be "
                "below the busy one."
            )
