"""All that a simulation is told, besides its requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.device import Device
from recascade_relaygr.simulation.arms import Arm
from recascade_relaygr.simulation.cost_tables import Durations

SignalFault = Literal["", "lost", "twice", "late"]


@dataclass(frozen=True)
class Change:
    """An instance comes or goes.

    Attributes:
        time: virtual seconds.
        kind: ``lose`` (it crashes, and gateways hear of it ``noticed`` seconds later), ``drain`` (it gets nothing new,
            but finishes what it has) or ``join``.
        instance: its name; a new one for ``join``.
        noticed: seconds.
    """

    time: float
    kind: Literal["lose", "drain", "join"]
    instance: str
    noticed: float = 0.5


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        arm: how ranking is done.
        relay: configuration of the relay, before the arm's overrides.
        durations: of the device.
        recent_tokens: of each request.
        candidates: of each request.
        instances: how many there are at first, named ``instance-0`` and so on.
        changes: instances that come and go.
        wrap: puts something around each instance's device, such as faults.
        signal_fault: what befalls the signal of a request, by its number.
    """

    arm: Arm
    relay: RelayConfig
    durations: Durations
    recent_tokens: int = 64
    candidates: int = 128
    instances: int = 1
    changes: Sequence[Change] = ()
    wrap: Callable[[Device], Device] = lambda device: device
    signal_fault: Callable[[int], SignalFault] = lambda number: ""
