"""Ways to run the ranking stage: the relay, what it is compared with, and the relay with one part missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recascade.settings import compose_sections, flatten
from recascade_relaygr.relay.config import RelayConfig


@dataclass(frozen=True)
class Arm:
    """One way.

    Attributes:
        name: in tables.
        description: one line.
        signals: whether prefixes are run early.
        stored: whether stored prefixes may be used.
        cut: whether every history is cut to what full inference can afford.
        remote: whether copies lie in a pool behind a network of 25 Gb/s rather than in the host's memory.
        overrides: of ``RelayConfig``, by dotted key.
    """

    name: str
    description: str
    signals: bool = True
    stored: bool = True
    cut: bool = False
    remote: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def relay(self, base: RelayConfig) -> RelayConfig:
        """A configuration of its own: the base with the arm's overrides."""
        keys = flatten({"relay": asdict(base)}) | {f"relay.{key}": value for key, value in self.overrides.items()}
        config: RelayConfig = compose_sections({"relay": RelayConfig}, keys)["relay"]
        return config


# Full inference keeps its promise more often late than shortened, for a little lateness is often none.
_LATE = {"degrade": False}
# The usual cache across requests: whoever is ranked in full leaves the prefix behind.
_USUAL_CACHE = {"fill_on_rank": True, "cache.eviction": "lru"}

ARMS = {
    arm.name: arm
    for arm in (
        Arm("full", "full inference in the ranking stage, nothing stored", signals=False, stored=False,
            overrides=_LATE),
        Arm("truncated", "full inference over as much history as fits", signals=False, stored=False, cut=True,
            overrides=_LATE),
        Arm("lru-cache", "prefix cache across requests, LRU, no trigger, no affinity", signals=False,
            overrides={**_USUAL_CACHE, "router.affinity": False}),
        Arm("lru-cache-affinity", "the same, each user on one instance", signals=False, overrides=_USUAL_CACHE),
        Arm("remote-pool", "the same, copies in a pool behind 25 Gb/s", signals=False, remote=True,
            overrides=_USUAL_CACHE),
        Arm("relay", "the relay"),
        Arm("no-host-tier", "the relay without copies in host memory", overrides={"expander.enabled": False}),
        Arm("no-trigger", "the relay, every prefix run early", overrides={"trigger.enabled": False}),
        Arm("no-affinity", "the relay, signals and requests spread", overrides={"router.affinity": False}),
        Arm("lru-eviction", "the relay, evicting the least recently used", overrides={"cache.eviction": "lru"}),
        Arm("one-queue", "the relay, prefixes and ranking in order of arrival", overrides={"executor.priority": False}),
    )
}  # fmt: skip
