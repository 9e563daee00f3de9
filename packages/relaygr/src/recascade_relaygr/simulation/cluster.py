"""The instances of a simulation and the gateway before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from recascade_relaygr.cluster.held_prefixes import HeldPrefixes
from recascade_relaygr.relay.clock import VirtualClock
from recascade_relaygr.relay.costs import Costs, CostTable
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.instance import Instance
from recascade_relaygr.relay.requests import OwnerLoad, PrefixKey
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.tabulated_device import TabulatedDevice
from recascade_relaygr.relay.trigger import Trigger
from recascade_relaygr.simulation.setting import Change, Setting

_REPORT_SECONDS = 0.02
_NETWORK_BYTES_PER_SECOND = 25e9 / 8
_NETWORK_SECONDS = 1e-3


class SimulatedCluster:
    """Instances on tabulated devices, which report to one gateway every 20 ms.

    Args:
        setting: what is simulated.
        seed: of the durations' scatter.

    Attributes:
        clock: virtual.
        config: of the relay, with the arm's overrides.
        instances: by name, those that have gone included.
        devices: of the instances.
        router: knows who is up.
        gateway: makes tickets.
        held: what the gateway learns from answers.
        owed: ranking requests sent to each instance and not answered.
        loads: latest report of each instance.
        peak_bytes: most bytes reserved in any prefix cache when it reported.
    """

    def __init__(self, setting: Setting, seed: int) -> None:
        self.config = setting.arm.relay(setting.relay)
        self.clock = VirtualClock()
        self.instances: dict[str, Instance] = {}
        self.devices: dict[str, TabulatedDevice] = {}
        self.owed: Counter[str] = Counter()
        self.loads: dict[str, OwnerLoad] = {}
        self.peak_bytes = 0
        self._setting = setting
        self._noise = setting.durations.noise(seed)
        self._reporting = True
        for number in range(setting.instances):
            self._start(f"instance-{number}")
        self.router = Router(self.instances, self.config.router)
        expander = self.config.expander
        self.held = HeldPrefixes(expander.seconds if expander.enabled else 0.0)
        self.gateway = Gateway(
            Trigger(self.config, self._costs(setting.durations.predicted()), 0.0),
            self.router,
            self.loads.get,
            self.instances["instance-0"].cache.bytes_of,
            lambda owner, key, fingerprint: self.held.held(owner, key, fingerprint, self.clock.time()),
        )
        for change in setting.changes:
            self.clock.call_at(change.time, self._apply, change)

    @property
    def copied_tokens(self) -> int:
        """How many prefix tokens fit into all host memories."""
        return sum(each.expander.capacity for each in self.instances.values()) // self._setting.durations.token_bytes

    def least_loaded(self) -> str:
        """Of the instances that are up, the one that owes the fewest answers."""
        return min(self.router.members, key=lambda name: self.owed[name], default="")

    def keep_copies(self, visits: Iterable[tuple[float, str, bytes, int]]) -> None:
        """Fill host memories with what earlier visits would have left there.

        Args:
            visits: time, user, fingerprint and tokens of each, in the order of time.
        """
        affinity = self.config.router.affinity
        for time, user, fingerprint, tokens in visits:
            owner = next(self.router.ring.owners(user if affinity else f"{user} at {time}"))
            instance, key = self.instances[owner], PrefixKey("", user)
            instance.expander.put(key, fingerprint, tokens, instance.cache.bytes_of(tokens), "reload", time)
            self.held.learn(owner, key, fingerprint, "relay", time)

    def stop_reporting(self) -> None:
        """Let the clock run dry when the work is done."""
        self._reporting = False

    def _start(self, name: str) -> None:
        durations = self._setting.durations
        device = self.devices[name] = TabulatedDevice(self.clock, self._costs(durations.costs), self._noise)
        costs = self._costs(durations.predicted())
        self.instances[name] = Instance(
            name, self.clock, self._setting.wrap(device), costs, self.config, durations.token_bytes
        )
        self._report(name)

    def _report(self, name: str) -> None:
        instance = self.instances[name]
        self.loads[name] = instance.load()
        self.peak_bytes = max(self.peak_bytes, instance.cache.reserved_bytes)
        if self._reporting:
            self.clock.call_at(self.clock.time() + _REPORT_SECONDS, self._report, name)

    def _apply(self, change: Change) -> None:
        if change.kind == "join":
            self._start(change.instance)
            self.router.add(change.instance)
        elif change.kind == "drain":
            self.router.remove(change.instance)
        else:
            self.instances[change.instance].leave()
            self.clock.call_at(self.clock.time() + change.noticed, self.router.remove, change.instance)

    def _costs(self, costs: Costs) -> Costs:
        if not self._setting.arm.remote:
            return costs
        lengths, token_bytes = costs.reload_table.lengths, self._setting.durations.token_bytes
        seconds = [[_NETWORK_SECONDS + length * token_bytes / _NETWORK_BYTES_PER_SECOND] for length in lengths]
        return Costs(costs.full_table, costs.rank_table, costs.prefill_table, CostTable(lengths, [1], seconds))
