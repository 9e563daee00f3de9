"""What the load generator asks. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least, check_within


@dataclass
class LoadConfig:
    """Settings of ``recascade relaygr load``.

    Attributes:
        rate: requests per second; 10.
        warm_up_seconds: whose requests do not count; 5.
        seconds: that count; 30.
        candidates: of each request; 100.
        least_events: only users with at least so long a history ask; 1.
        hints: whether each request is announced; False is what a service without a relay gets.
        slack_ms: median of the log-normal time from hint to ranking; 60.
        slack_sigma: of its logarithm; 0.15.
        session_minutes: a user's next event in the log counts as the same session if it comes within this time; 30.
            Users of the load come back as often, and after as long, as within the sessions of the log.
        speed: factor by which think-times are shortened; 1.
        burst: the rate in a burst, as a multiple of the rate between bursts; 1 for none. The mean rate stays.
        burst_seconds: length of a burst; 2.
        burst_every_seconds: from the beginning of one to the next; 20.
        rank_ms: limit of a ranking request, as its client sees it; 50.
        connections: to the service at a time; 64.
        seed: of all draws.
    """

    rate: float = 10.0
    warm_up_seconds: float = 5.0
    seconds: float = 30.0
    candidates: int = 100
    least_events: int = 1
    hints: bool = True
    slack_ms: float = 60.0
    slack_sigma: float = 0.15
    session_minutes: float = 30.0
    speed: float = 1.0
    burst: float = 1.0
    burst_seconds: float = 2.0
    burst_every_seconds: float = 20.0
    rank_ms: float = 50.0
    connections: int = 64
    seed: int = 0

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_within("load.burst_seconds", self.burst_seconds, 0, self.burst_every_seconds)
        for key, value, least in (
            ("rate", self.rate, 1e-3),
            ("warm_up_seconds", self.warm_up_seconds, 0),
            ("seconds", self.seconds, 0.1),
            ("candidates", self.candidates, 1),
            ("least_events", self.least_events, 0),
            ("slack_ms", self.slack_ms, 0),
            ("slack_sigma", self.slack_sigma, 0),
            ("session_minutes", self.session_minutes, 0),
            ("speed", self.speed, 1e-3),
            ("burst", self.burst, 1),
            ("rank_ms", self.rank_ms, 0),
            ("connections", self.connections, 1),
            ("seed", self.seed, 0),
        ):
            check_at_least(f"load.{key}", value, least)
