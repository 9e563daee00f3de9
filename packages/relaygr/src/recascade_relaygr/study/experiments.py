"""The questions of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recascade_relaygr.simulation.arms import ARMS
from recascade_relaygr.simulation.faults import FAULTS

Kind = Literal["load", "history", "kept", "timeline"]
"""What is measured: the largest load that is borne, the longest history that is borne, the share of requests that kept
the limits, or that share second by second."""

LOSS_SECOND = 15


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: in chart and table.
        arm: how ranking is done.
        overrides: by dotted key.
        lost: instances that crash at second ``LOSS_SECOND``.
        fault: what goes wrong, of ``FAULTS``.
    """

    label: str
    arm: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    lost: int = 0
    fault: str = "none"


@dataclass(frozen=True)
class Experiment:
    """One question.

    Attributes:
        name: as in ``study.experiments``.
        title: heading.
        text: what is asked and how to read the answer.
        kind: what is measured.
        key: dotted key that is varied; empty where only the series differ.
        axis: its name in the chart.
        values: that it takes.
        series: the lines.
        overrides: of all of them, by dotted key.
    """

    name: str
    title: str
    text: str
    kind: Kind
    key: str
    axis: str
    values: tuple[Any, ...]
    series: tuple[Series, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)


_FULL = Series("full inference", "full")
_BY_REUSE = (
    _FULL,
    Series("relay, no reuse", "relay", {"workload.reuse": 0.0}),
    Series("relay, 50 % reuse", "relay", {"workload.reuse": 0.5}),
    Series("relay, 90 % reuse", "relay", {"workload.reuse": 0.9}),
)
_RIVALS = (
    _FULL,
    Series("relay", "relay"),
    Series("relay without host memory", "no-host-tier"),
    Series("LRU prefix cache", "lru-cache-affinity"),
)


def experiments() -> dict[str, Experiment]:
    """All of them, in the order of the page."""
    return {
        each.name: each
        for each in (
            Experiment(
                "length",
                "Load by length of the history",
                "Requests per second and instance that keep the limits. The relay moves work into the slack and, with "
                "reuse, spares it; where full inference fits its budget with room to spare, there is little to gain.",
                "load",
                "workload.prefix_tokens",
                "events of every history",
                (1024, 1536, 2048, 2560, 3072),
                _BY_REUSE,
            ),
            Experiment(
                "history",
                "Longest history by load",
                "The longest history that all users may have at a given load.",
                "history",
                "workload.rate",
                "requests per second and instance",
                (20, 40, 80),
                _BY_REUSE,
            ),
            Experiment(
                "reuse",
                "Load by reuse",
                "Share of requests whose user was here before with the same long-term history. Without reuse the relay "
                "does not lower the work, it only moves it.",
                "load",
                "workload.reuse",
                "share of requests that return",
                (0.0, 0.25, 0.5, 0.75, 0.9),
                _RIVALS,
            ),
            Experiment(
                "slack",
                "Load by slack",
                "Time between signal and ranking request. The limit of the whole request is lifted to 400 ms here, so "
                "that only ranking binds.",
                "load",
                "workload.slack_ms",
                "median slack, milliseconds",
                (20.0, 30.0, 40.0, 60.0, 100.0),
                _BY_REUSE[:3],
                {"study.total_ms": 400.0},
            ),
            Experiment(
                "cache",
                "Load by accelerator memory for prefixes",
                "A prefix of 2,048 events takes 20 MiB. Memory binds only when it is down to a few prefixes.",
                "load",
                "relay.cache.capacity_mib",
                "MiB",
                (80.0, 160.0, 320.0, 1280.0, 8192.0),
                (_FULL, Series("relay", "relay"), Series("relay, LRU eviction", "lru-eviction")),
            ),
            Experiment(
                "host-memory",
                "Load by host memory for copies",
                "At 90 % reuse: the copy of a user who comes back must not have been evicted meanwhile.",
                "load",
                "relay.expander.capacity_mib",
                "MiB",
                (0.0, 32_768.0, 65_536.0, 131_072.0, 262_144.0),
                (_FULL, Series("relay", "relay"), Series("LRU prefix cache", "lru-cache-affinity")),
                {"workload.reuse": 0.9},
            ),
            Experiment(
                "mixed",
                "Load when only some histories are long",
                "Histories of 2,560 events among histories of 256; 50 % reuse. The share of long ones is varied.",
                "load",
                "workload.long_share",
                "share of requests with a long history",
                (0.1, 0.2, 0.5, 1.0),
                (_FULL, Series("relay", "relay")),
                {"workload.prefix_tokens": 2560},
            ),
            Experiment(
                "arms",
                "Other ways, and the relay with one part missing",
                "Four instances, so that the router matters. Truncated answers count here although they know less of "
                "the history; the table says how much.",
                "load",
                "",
                "",
                ("",),
                tuple(Series(arm.description, name) for name, arm in ARMS.items()),
                {"study.instances": 4},
            ),
            Experiment(
                "bursts",
                "Bursts",
                "Two seconds out of twenty bring this many times the load of the others; the mean stays at 40 requests "
                "per second. Shown is the share of all requests that keep the limits.",
                "kept",
                "workload.burst",
                "times the load",
                (1.0, 2.0, 3.0, 5.0, 10.0),
                _BY_REUSE,
                {"workload.rate": 40.0},
            ),
            Experiment(
                "instances",
                "Number of instances",
                "60 requests per second for each instance; users are spread by the ring, full inference goes to the "
                "instance that owes the fewest answers.",
                "kept",
                "study.instances",
                "instances",
                (1, 4, 16, 32),
                (_FULL, Series("relay", "relay"), Series("relay, signals and requests spread", "no-affinity")),
                {"workload.rate": 60.0},
            ),
            Experiment(
                "loss",
                "Loss of instances",
                "Eight instances under the workload's own rate. At second 15 some crash; gateways hear of it half a "
                "second later. What they were asked is answered by others, in full.",
                "timeline",
                "",
                "second",
                tuple(range(5, 35)),
                (
                    Series("relay, one of eight is lost", "relay", lost=1),
                    Series("relay, three of eight are lost", "relay", lost=3),
                    Series("full inference, one of eight is lost", "full", lost=1),
                ),
                {"study.instances": 8, "study.seconds": 30.0},
            ),
            Experiment(
                "faults",
                "Faults",
                "Four instances, histories of 3,072 events, which full inference cannot rank in time, and 20 requests "
                "per second for each instance; 30 % of the works in question fail. Shown is the share of requests that "
                "keep the limits; the table below says whether all were answered.",
                "kept",
                "",
                "",
                ("",),
                tuple(Series(name, "relay", fault=name) for name in FAULTS),
                {"workload.rate": 20.0, "workload.prefix_tokens": 3072, "study.instances": 4},
            ),
        )
    }
