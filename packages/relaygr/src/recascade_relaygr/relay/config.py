"""How the relay decides. All defaults are our choices or derived; the paper's thresholds are not public."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.errors import ConfigurationError

EVICTIONS = ("lifecycle", "lru")


@dataclass
class TriggerConfig:
    """When a prefix is worth running early.

    Attributes:
        enabled: False admits every prefix that has room (an ablation).
        risk_share: share of the ranking budget beyond which full inference is at risk; 0.8 (our choice: predictions
            are 99th percentiles of a machine whose own speed moves, and a prefix too many costs little where lanes are
            free).
        guard_ms: margin on the predicted time of full inference and of a prefix; 2.
        fill_share: ρ, share of all lanes' time that prefixes may take; 0.8 (the specification that we built from has
            0.5; in our study 0.8 bears a tenth more load at little reuse, and 0.95 the same: a prefix that is refused
            spares nothing when its user is at risk, for the ranking stage then does that work itself).
        burst_seconds: device seconds of fills that may be admitted at once beyond the rate; 0.2.
        slack_ms: time from signal to ranking request that nine of ten requests leave, to begin with; 30. Observed
            values replace it.
        stale_seconds: age at which an owner's report counts as unknown; 0.1.
    """

    enabled: bool = True
    risk_share: float = 0.8
    guard_ms: float = 2.0
    fill_share: float = 0.8
    burst_seconds: float = 0.2
    slack_ms: float = 30.0
    stale_seconds: float = 0.1


@dataclass
class RouterConfig:
    """Who owns a prefix.

    Attributes:
        affinity: send signal and ranking request of a user to the same instance; False spreads them (an ablation).
        virtual_nodes: places of each instance on the ring; 128.
        load_bound: c; an owner with more than c times the mean load passes a signal on; 1.25.
        successors: how far it may be passed on; 2.
    """

    affinity: bool = True
    virtual_nodes: int = 128
    load_bound: float = 1.25
    successors: int = 2


@dataclass
class CacheConfig:
    """The prefix cache in the accelerator's memory.

    Attributes:
        capacity_mib: bytes given to it, in MiB; 64.
        page_tokens: tokens of a page; 64.
        eviction: ``lifecycle`` keeps what was promised until its window ends; ``lru`` (an ablation, and the usual
            cache) evicts what was used longest ago.
        margin_ms: added to the lifecycle window; 50.
        window_ms: the lifecycle window until slacks were observed; 300.
        longest_window_ms: 2000.
    """

    capacity_mib: float = 64.0
    page_tokens: int = 64
    eviction: str = "lifecycle"
    margin_ms: float = 50.0
    window_ms: float = 300.0
    longest_window_ms: float = 2000.0


@dataclass
class ExpanderConfig:
    """The tier in host memory.

    Attributes:
        enabled: the switch.
        capacity_mib: 256.
        seconds: how long a copy is kept; 600.
    """

    enabled: bool = True
    capacity_mib: float = 256.0
    seconds: float = 600.0


@dataclass
class ExecutorConfig:
    """The lanes of a device.

    Attributes:
        lanes: works that run at a time; 2.
        chunk_tokens: prefix tokens that are run without a break; 512.
        priority: ranking goes before prefixes; False serves both in the order of arrival (an ablation).
        fill_window_seconds: the window over which ``trigger.fill_share`` is kept; 1.
    """

    lanes: int = 2
    chunk_tokens: int = 512
    priority: bool = True
    fill_window_seconds: float = 1.0


@dataclass
class RelayConfig:
    """All of the relay.

    Attributes:
        rank_budget_ms: of a ranking request, from its arrival at the instance; 50.
        trigger: when prefixes are run early.
        router: by whom.
        cache: where they are kept.
        expander: and where after that.
        executor: the device's queues.
        fill_on_rank: where no prefix was run ahead, run it in the ranking stage and keep it, at about the cost of full
            inference, if ranking on it takes less than half of that and the answer is still in time; on.
        degrade: shorten the history where full inference would miss the deadline; False answers late but in full.
        join_slop_ms: a request waits for a fill under way at most this much longer than predicted; 5.
        tombstone_seconds: how long a late signal of an answered request is recognised; 10.
    """

    rank_budget_ms: float = 50.0
    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    expander: ExpanderConfig = field(default_factory=ExpanderConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    fill_on_rank: bool = True
    degrade: bool = True
    join_slop_ms: float = 5.0
    tombstone_seconds: float = 10.0

    @property
    def rank_budget(self) -> float:
        """Seconds."""
        return self.rank_budget_ms / 1e3

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_choice("relay.cache.eviction", self.cache.eviction, EVICTIONS)
        check_at_least("relay.router.virtual_nodes", self.router.virtual_nodes, 1)
        check_at_least("relay.router.load_bound", self.router.load_bound, 1)
        check_at_least("relay.router.successors", self.router.successors, 0)
        check_at_least("relay.cache.page_tokens", self.cache.page_tokens, 1)
        check_at_least("relay.executor.lanes", self.executor.lanes, 1)
        check_within("relay.trigger.fill_share", self.trigger.fill_share, 0, 1)
        check_within("relay.trigger.risk_share", self.trigger.risk_share, 0, 1)
        for key, value in (
            ("rank_budget_ms", self.rank_budget_ms),
            ("join_slop_ms", self.join_slop_ms),
            ("tombstone_seconds", self.tombstone_seconds),
            ("trigger.guard_ms", self.trigger.guard_ms),
            ("trigger.burst_seconds", self.trigger.burst_seconds),
            ("trigger.slack_ms", self.trigger.slack_ms),
            ("trigger.stale_seconds", self.trigger.stale_seconds),
            ("cache.capacity_mib", self.cache.capacity_mib),
            ("cache.margin_ms", self.cache.margin_ms),
            ("cache.window_ms", self.cache.window_ms),
            ("cache.longest_window_ms", self.cache.longest_window_ms),
            ("expander.capacity_mib", self.expander.capacity_mib),
            ("expander.seconds", self.expander.seconds),
            ("executor.fill_window_seconds", self.executor.fill_window_seconds),
        ):
            check_at_least(f"relay.{key}", value, 0)
        if self.executor.chunk_tokens < 1 or self.executor.chunk_tokens % self.cache.page_tokens:
            raise ConfigurationError(
                f"relay.executor.chunk_tokens is {self.executor.chunk_tokens}; it must be a multiple of "
                f"relay.cache.page_tokens, which is {self.cache.page_tokens}."
            )
