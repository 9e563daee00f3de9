"""What the simulated cluster is asked to do. All defaults are our choices; the paper's traffic is not public."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least, check_within
from recascade.errors import ConfigurationError


@dataclass
class WorkloadConfig:
    """Open-loop traffic: requests come at their own pace, however long the answers take.

    Attributes:
        rate: requests per second and instance; 40.
        prefix_tokens: long-term events of a user with a long history; 2048.
        long_share: share of requests from such users; 1.
        short_tokens: long-term events of all others; 256.
        recent_tokens: short-term events and cross features; 64.
        candidates: per request; 128.
        slack_ms: median of the log-normal time from a request's arrival to its ranking request; 60.
        slack_sigma: of its logarithm; 0.15, which puts its 99th percentile at 85 ms.
        least_slack_ms: no slack is shorter; 20.
        reuse: share of requests whose user was here before with the same long-term history; 0.5.
        gap_seconds: median of the log-normal time since then; 30.
        gap_sigma: of its logarithm; 1.
        burst: the rate in a burst, as a multiple of the rate between bursts; 1 for no bursts. The mean rate stays.
        burst_seconds: length of a burst; 2.
        burst_every_seconds: from the beginning of one to the next; 20.
        hop_ms: median of the log-normal time of a message between two machines; 1.
        slow_hop_ms: its 99th percentile; 4.
    """

    rate: float = 40.0
    prefix_tokens: int = 2048
    long_share: float = 1.0
    short_tokens: int = 256
    recent_tokens: int = 64
    candidates: int = 128
    slack_ms: float = 60.0
    slack_sigma: float = 0.15
    least_slack_ms: float = 20.0
    reuse: float = 0.5
    gap_seconds: float = 30.0
    gap_sigma: float = 1.0
    burst: float = 1.0
    burst_seconds: float = 2.0
    burst_every_seconds: float = 20.0
    hop_ms: float = 1.0
    slow_hop_ms: float = 4.0

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_within("workload.burst_seconds", self.burst_seconds, 0, self.burst_every_seconds)
        for key, value, most in (("reuse", self.reuse, 0.99), ("long_share", self.long_share, 1.0)):
            if not 0 <= value <= most:
                raise ConfigurationError(f"workload.{key} is {value}; it must be at least 0 and at most {most}.")
        check_at_least("workload.slow_hop_ms", self.slow_hop_ms, self.hop_ms)
        for key, value, least in (
            ("rate", self.rate, 1e-3),
            ("prefix_tokens", self.prefix_tokens, 0),
            ("short_tokens", self.short_tokens, 0),
            ("recent_tokens", self.recent_tokens, 0),
            ("candidates", self.candidates, 1),
            ("slack_ms", self.slack_ms, 0),
            ("slack_sigma", self.slack_sigma, 0),
            ("least_slack_ms", self.least_slack_ms, 0),
            ("gap_seconds", self.gap_seconds, 1e-3),
            ("gap_sigma", self.gap_sigma, 0),
            ("burst", self.burst, 1),
            ("hop_ms", self.hop_ms, 1e-6),
        ):
            check_at_least(f"workload.{key}", value, least)
