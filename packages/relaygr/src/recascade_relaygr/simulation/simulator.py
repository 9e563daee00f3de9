"""A discrete-event simulation that drives the relay's own trigger, router, cache, host tier and lanes.

Only clock and device are made up, and the network between machines is a delay. One thread, one seed, one result.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from recascade_relaygr.relay.requests import InstanceGoneError, Outcome, PrefixKey, RankRequest, Signal, Sizes, Ticket
from recascade_relaygr.simulation.answers import Answers
from recascade_relaygr.simulation.cluster import SimulatedCluster
from recascade_relaygr.simulation.setting import Setting
from recascade_relaygr.simulation.workload import Workload

_LATE_SECONDS = 0.5


class Simulation:
    """A cluster and the clients that ask it.

    Each request comes to the gateway, which may send a signal; after its slack, the ranking request goes to the
    instance that the router names. Where an instance has crashed, the next one is asked for full inference, with what
    is left of the deadline.

    Args:
        setting: what is simulated.
        workload: the requests.
        seed: of the durations' scatter.

    Attributes:
        cluster: instances and gateway.
        times: float64 ``[N]``, arrivals of the requests.
        answers: so far.
        reasons: of the trigger's decisions, counted.
    """

    def __init__(self, setting: Setting, workload: Workload, seed: int) -> None:
        self.setting = setting
        self.cluster = SimulatedCluster(setting, seed)
        self.answers = Answers()
        self.reasons: Counter[str] = Counter()
        self._clock = self.cluster.clock
        self.times = workload.times
        self._times: list[float] = workload.times.tolist()
        self._users = [str(user) for user in workload.users.tolist()]
        self._tokens = workload.tokens.tolist()
        self._slacks = workload.slacks.tolist()
        self._signal_hops = workload.signal_hops.tolist()
        self._rank_hops = workload.rank_hops.tolist()
        self._most_tokens = self._affordable() if setting.arm.cut else None
        if setting.arm.stored:
            self.cluster.keep_copies(
                (visit.time, str(visit.user), _fingerprint(visit.tokens), visit.tokens)
                for visit in workload.last_visits(self.cluster.copied_tokens)
            )
        if self._times:
            self._clock.call_at(self._times[0], self._arrive, 0)

    @property
    def offered(self) -> int:
        """Requests of the workload."""
        return len(self._times)

    def run_until(self, time: float) -> None:
        """Let virtual time pass."""
        self._clock.run_until(time)

    def finish(self) -> None:
        """Let time pass until every request is answered and nothing is left to do."""
        if self._times:
            self._clock.run_until(self._times[-1] + self._slacks[-1])
        self.cluster.stop_reporting()
        self._clock.run()

    def _arrive(self, number: int) -> None:
        if number + 1 < self.offered:
            self._clock.call_at(self._times[number + 1], self._arrive, number + 1)
        now = self._clock.time()
        ticket = self._ticket(number, now) if self.setting.arm.signals else None
        if ticket is not None and ticket.admitted:
            self._send_signal(number, ticket, now)
        self._clock.call_at(now + self._slacks[number], self._ask, number, ticket)

    def _ticket(self, number: int, now: float) -> Ticket:
        tokens = self._tokens[number]
        sizes = Sizes(tokens, self.setting.recent_tokens, self.setting.candidates)
        key = PrefixKey("", self._users[number])
        ticket = self.cluster.gateway.ticket(str(number), key, _fingerprint(tokens), sizes, now)
        self.reasons[ticket.reason] += 1
        return ticket

    def _send_signal(self, number: int, ticket: Ticket, now: float) -> None:
        fault = self.setting.signal_fault(number)
        if fault == "lost":
            return
        tokens = ticket.prefix_tokens
        deadline = now + self._slacks[number] + self.cluster.config.cache.longest_window_ms / 1e3
        signal = Signal(ticket.request, ticket.key, _fingerprint(tokens), tokens, deadline)
        arrival = now + self._signal_hops[number] + (_LATE_SECONDS if fault == "late" else 0.0)
        for _ in range(2 if fault == "twice" else 1):
            self._clock.call_at(arrival, self.cluster.instances[ticket.owner].signal, signal)

    def _ask(self, number: int, ticket: Ticket | None) -> None:
        """The ranking request leaves the gateway."""
        arm, user = self.setting.arm, self._users[number]
        if arm.stored:
            owner, relay = self.cluster.gateway.route(ticket, user, str(number), self._clock.time())
        else:
            owner, relay = self.cluster.least_loaded(), False
        tokens = self._tokens[number] if ticket is None or not ticket.prefix_tokens else ticket.prefix_tokens
        if self._most_tokens is not None:
            tokens = min(tokens, self._most_tokens)
        self.cluster.owed[owner] += 1
        self._clock.call_at(
            self._clock.time() + self._rank_hops[number], self._deliver, number, owner, tokens, relay, None
        )

    def _deliver(self, number: int, owner: str, tokens: int, relay: bool, arrived: float | None) -> None:
        """The ranking request reaches an instance, the first one at its arrival and others later."""
        now = self._clock.time()
        first = now if arrived is None else arrived
        sizes = Sizes(tokens, self.setting.recent_tokens, self.setting.candidates)
        request = RankRequest(
            str(number),
            PrefixKey("", self._users[number]),
            _fingerprint(tokens),
            sizes,
            first + self.cluster.config.rank_budget,
            relay=relay,
        )
        done = partial(self._answered, number, owner, request, first)
        instance = self.cluster.instances.get(owner)
        if instance is None:
            self.answers.failed += 1
        else:
            instance.rank(request, done)

    def _answered(self, number: int, owner: str, request: RankRequest, arrived: float, outcome: Outcome) -> None:
        now, hop = self._clock.time(), self._rank_hops[number]
        self.cluster.owed[owner] -= 1
        if isinstance(outcome.error, InstanceGoneError):
            others = [name for name in self.cluster.router.ring.owners(self._users[number]) if name != owner]
            if not others:
                self.answers.failed += 1
                return
            self.cluster.owed[others[0]] += 1
            # To the gateway and on to the next instance.
            self._clock.call_at(now + 2 * hop, self._deliver, number, others[0], request.sizes.prefix, False, arrived)
            return
        if outcome.error is not None:
            self.answers.failed += 1
            return
        self.cluster.held.learn(owner, request.key, request.fingerprint, outcome.path, now)
        total = now + hop - self._times[number]
        self.answers.add(number, outcome.path, now - arrived, total, outcome.prefix_tokens)

    def _affordable(self) -> int:
        """The longest history that full inference affords with half of the budget left for waiting."""
        budget = self.cluster.config.rank_budget
        table = self.setting.durations.predicted().full_table
        return table.longest(budget / 2, self.setting.candidates, max(self._tokens, default=0))


def _fingerprint(tokens: int) -> bytes:
    """A simulated user has one history; cut to another length, it is another prefix."""
    return tokens.to_bytes(4, "big")
