"""What can go wrong in a cluster, and what must hold nevertheless."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from recascade_relaygr.relay.cache import State
from recascade_relaygr.relay.device import Device, Work
from recascade_relaygr.simulation.cluster import SimulatedCluster
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.setting import Change, Setting

_SHARE = 0.3


class FaultyDevice:
    """Lets some works fail after they have taken their time.

    Args:
        device: does the others.
        kinds: of work that may fail.
        error: raised.
        share: of those works that fail.
        seed: of the draws.
    """

    def __init__(
        self, device: Device, kinds: Collection[str], error: BaseException, share: float = _SHARE, seed: int = 0
    ) -> None:
        self.device = device
        self.kinds = kinds
        self.error = error
        self.share = share
        self._draw = random.Random(seed)

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Do a work, or seem to."""
        if work.kind not in self.kinds or self._draw.random() >= self.share:
            self.device.start(work, done)
        else:
            self.device.start(work, lambda result, error, seconds: done(None, self.error, seconds))


Fault = Callable[[Setting, WorkloadConfig, float], tuple[Setting, WorkloadConfig]]
"""Setting, workload and its seconds to the same with something going wrong."""


def _failing(kinds: Collection[str], error: BaseException) -> Fault:
    def fault(setting: Setting, workload: WorkloadConfig, _: float) -> tuple[Setting, WorkloadConfig]:
        return replace(setting, wrap=lambda device: FaultyDevice(device, kinds, error)), workload

    return fault


def _signals(kind: Any, every: int) -> Fault:
    def fault(setting: Setting, workload: WorkloadConfig, _: float) -> tuple[Setting, WorkloadConfig]:
        return replace(setting, signal_fault=lambda number: kind if number % every == 0 else ""), workload

    return fault


def _crashes(setting: Setting, workload: WorkloadConfig, seconds: float) -> tuple[Setting, WorkloadConfig]:
    """Every other instance crashes, one after the other."""
    names = [f"instance-{number}" for number in range(0, setting.instances - 1, 2)]
    changes = [
        Change((place + 1) * seconds / (len(names) + 1), "lose", name, noticed=0.5) for place, name in enumerate(names)
    ]
    return replace(setting, changes=changes), workload


def _ring_changes(setting: Setting, workload: WorkloadConfig, seconds: float) -> tuple[Setting, WorkloadConfig]:
    """An instance joins and an older one drains, four times."""
    changes = []
    for number in range(4):
        time = (number + 1) * seconds / 5
        changes.append(Change(time, "join", f"newcomer-{number}"))
        if number < setting.instances - 1:
            changes.append(Change(time, "drain", f"instance-{number}"))
    return replace(setting, changes=changes), workload


def _without_slack(setting: Setting, workload: WorkloadConfig, _: float) -> tuple[Setting, WorkloadConfig]:
    return setting, replace(workload, slack_ms=0.0, least_slack_ms=0.0)


def _tenfold_bursts(setting: Setting, workload: WorkloadConfig, _: float) -> tuple[Setting, WorkloadConfig]:
    return setting, replace(workload, burst=10.0)


def _little_memory(setting: Setting, workload: WorkloadConfig, _: float) -> tuple[Setting, WorkloadConfig]:
    """Room for two prefixes, and copies that fill host memory up."""
    size = workload.prefix_tokens * setting.durations.token_bytes / (1 << 20)
    cache = replace(setting.relay.cache, capacity_mib=2 * size)
    expander = replace(setting.relay.expander, capacity_mib=3 * size)
    return replace(setting, relay=replace(setting.relay, cache=cache, expander=expander)), workload


FAULTS: dict[str, Fault] = {
    "none": lambda setting, workload, seconds: (setting, workload),
    "prefix runs raise": _failing(("prefill",), RuntimeError("the device failed")),
    "out of memory": _failing(("prefill", "reload", "rank"), MemoryError("out of memory")),
    "copies are damaged": _failing(("reload",), ValueError("the checksum is wrong")),
    "copying fails": _failing(("copy",), RuntimeError("the link failed")),
    "every other instance crashes": _crashes,
    "the ring changes": _ring_changes,
    "signals are lost": _signals("lost", 2),
    "signals come twice": _signals("twice", 1),
    "signals come after ranking": _signals("late", 1),
    "no slack": _without_slack,
    "tenfold bursts": _tenfold_bursts,
    "room for two prefixes": _little_memory,
}
"""By name; the share of works that fail is 30 %."""


def leaks(cluster: SimulatedCluster) -> dict[str, int]:
    """What is left in a cluster in which nothing happens any more and no promise holds; all values should be 0."""
    instances = list(cluster.instances.values())
    for instance in instances:
        instance.cache.expire(cluster.clock.time() + cluster.config.cache.longest_window_ms / 1e3 + 1)
    entries = [entry for instance in instances for entry in instance.cache.entries]
    held = sum(len(entry.pages) for entry in entries)
    return {
        "pins": sum(entry.pins for entry in entries),
        "promises": sum(len(entry.expected) for entry in entries),
        "unfinished entries": sum(entry.state not in (State.SPENT, State.READY) for entry in entries),
        "pages of no entry": sum(each.cache.arena.pages - each.cache.arena.free for each in instances) - held,
        "busy lanes": sum(instance.executor.busy_lanes for instance in instances),
        "queued milliseconds": round(
            1e3 * sum(instance.executor.rank_queue + instance.executor.fill_queue for instance in instances)
        ),
    }
