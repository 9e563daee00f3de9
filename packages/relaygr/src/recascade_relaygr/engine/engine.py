"""The relay in one process: hint early, rank later, with asyncio."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from recascade.contracts.ranker import PrefixRanker
from recascade.errors import ConfigurationError
from recascade.threads import one_thread
from recascade_relaygr.engine.front import RelayFront
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.engine.profile import measure_costs
from recascade_relaygr.engine.torch_device import TorchDevice
from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.ranker.safety import check_prefix_safety
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.instance import Instance

_QUANTILES_SECONDS = 1.0


class RelayEngine(RelayFront):
    """Ranks on prefixes that were run ahead where that is of use, and in full where it is not.

    ``hint`` may be left out, repeated, or come late; ``rank`` always answers. To be made and used on one running event
    loop.

    Args:
        ranker: in evaluation mode, on ``device``.
        items: size of its catalogue.
        config: of the relay.
        version: of the weights; states of another version are never used.
        instances: logical ones in this process, each with lanes and memory of its own.
        costs: predicted durations; None measures them now, which takes some seconds.
        device: where the ranker computes.
        dtype: that it computes with.
        state_dtype: that states are kept in; None for ``dtype``. A narrower one halves the bytes and costs accuracy.
        tolerance: the largest error of a score that the safety check allows; None for that of the states' precision.

    Raises:
        PrefixUnsafeError: running a prefix ahead of time changes the ranker's scores.
        ConfigurationError: the configuration cannot work.
    """

    def __init__(
        self,
        ranker: PrefixRanker,
        items: int,
        config: RelayConfig | None = None,
        *,
        version: str = "0",
        instances: int = 1,
        costs: Costs | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        state_dtype: torch.dtype | None = None,
        tolerance: float | None = None,
    ) -> None:
        config = config or RelayConfig()
        config.check()
        self.ranker = ranker
        self.prefix_error = check_prefix_safety(
            ranker, items, tolerance=tolerance, dtype=dtype, device=device, stored=state_dtype
        )
        page, stored = config.cache.page_tokens, state_dtype or dtype
        if ranker.max_length < page:
            raise ConfigurationError(
                f"The ranker reads {ranker.max_length} events and a page holds {page}; lower relay.cache.page_tokens."
            )
        layers, width = ranker.state_shape
        token_bytes = layers * width * stored.itemsize
        self.instances: dict[str, Instance] = {}
        super().__init__(
            config,
            costs or _measured(ranker, items, page, device, dtype),
            self.instances,
            lambda tokens: -(-tokens // page) * page * token_bytes,
            version=version,
            max_length=ranker.max_length,
        )
        self._devices: list[TorchDevice] = []
        self._quantiles, self._quantiles_until = (0.0, 0.0), 0.0
        for number in range(instances):
            pages = int(config.cache.capacity_mib * (1 << 20)) // (token_bytes * page)
            memory = PrefixMemory(layers, width, pages, page, stored, device)
            worker = TorchDevice(TorchWorks(ranker, memory, device, dtype), config.executor.lanes, self.loop)
            name = f"instance-{number}"
            self.instances[name] = Instance(name, self.loop, worker, self.costs, config, token_bytes)
            self._devices.append(worker)
            self.router.add(name)

    def remove(self, name: str) -> None:
        """Take an instance out of service; what waits there is answered by another one."""
        self.router.remove(name)
        self.instances[name].leave()

    def stats(self) -> dict[str, Any]:
        """Answers by path, signals and fills by what became of them, refusals by reason, bytes and times; the quantiles
        of durations may be a second old."""
        everyone = list(self.instances.values())
        paths = sum((each.statistics.paths for each in everyone), Counter[str]())
        answers = sum(paths.values())
        p50, p99 = self._slowest_quantiles()
        return {
            "answers": answers,
            "errors": sum(each.statistics.errors for each in everyone),
            "paths": dict(paths),
            "shares": {path: number / answers for path, number in paths.items()},
            "signals": dict(sum((each.statistics.signals for each in everyone), Counter[str]())),
            "fills": dict(sum((each.statistics.fills for each in everyone), Counter[str]())),
            "decisions": dict(self.reasons),
            "prefix_bytes": sum(each.cache.reserved_bytes for each in everyone),
            "prefix_capacity_bytes": sum(each.cache.capacity_bytes for each in everyone),
            "copy_bytes": sum(each.expander.bytes for each in everyone),
            "rank_seconds": sum(each.executor.rank_seconds for each in everyone),
            "fill_seconds": sum(each.executor.fill_seconds for each in everyone),
            "p50_ms": p50 * 1e3,
            "p99_ms": p99 * 1e3,
            "prefix_error": self.prefix_error,
        }

    def _slowest_quantiles(self) -> tuple[float, float]:
        """Median and 99th percentile of the slowest instance; kept for a second, since they take sorting."""
        now = self.loop.time()
        if now >= self._quantiles_until:
            found = [each.statistics.quantiles(0.50, 0.99) for each in self.instances.values()]
            self._quantiles = max(p50 for p50, _ in found), max(p99 for _, p99 in found)
            self._quantiles_until = now + _QUANTILES_SECONDS
        return self._quantiles

    def close(self) -> None:
        """Finish the works that were begun; requests that still wait are not answered."""
        for device in self._devices:
            device.close()


def _measured(
    ranker: PrefixRanker, items: int, page_tokens: int, device: torch.device | str, dtype: torch.dtype
) -> Costs:
    recent = page_tokens - 1
    longest = (ranker.max_length - recent) // page_tokens * page_tokens
    lengths = [0]
    length = page_tokens
    while length < longest:
        lengths.append(length)
        length *= 2
    lengths += [longest] if longest > lengths[-1] else []
    # A lane works on one thread of a CPU. On a GPU the number of threads is of no account.
    with one_thread():
        return measure_costs(
            ranker,
            items,
            lengths=lengths,
            candidates=(1, 128, 512),
            recent=recent,
            page_tokens=page_tokens,
            device=device,
            dtype=dtype,
        )
