"""What the device can do: rates of matrix products, bandwidth of memory, and how to time and weigh work on it."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

Work = Callable[[], object]


@dataclass
class Device:
    """One device and its measured rates.

    Args:
        kind: ``cpu`` or ``cuda``.
        quick: fewer repeats, smaller tensors.

    Attributes:
        matrix_rates: multiplications and additions per second of a product of large square matrices, by dtype name.
        bandwidth: bytes per second of a copy that no cache holds, read and written together.
    """

    kind: str
    quick: bool
    matrix_rates: dict[str, float] = field(default_factory=dict)
    bandwidth: float = 0.0

    @property
    def gpu(self) -> bool:
        """Whether the bars that need a GPU can be measured."""
        return self.kind == "cuda"

    @property
    def name(self) -> str:
        """What stands in the report."""
        if self.gpu:
            return torch.cuda.get_device_name()
        model = platform.processor() or platform.machine()
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        except OSError:
            pass
        return f"{model}, {torch.get_num_threads()} of {os.cpu_count()} threads"

    @property
    def clock(self) -> str:
        """What the seconds are of."""
        return "wall" if self.gpu or torch.get_num_threads() > 1 else "CPU"

    def now(self) -> float:
        """Seconds; with one thread of a CPU those that the process computed, which other programs do not lengthen."""
        if self.gpu:
            torch.cuda.synchronize()
        return time.process_time() if self.clock == "CPU" else time.perf_counter()

    def seconds(self, work: Work, repeats: int = 0) -> float:
        """The least seconds of some repeats, after one run that does not count."""
        work()
        least = float("inf")
        for _ in range(repeats or (2 if self.quick else 5)):
            begun = self.now()
            work()
            least = min(least, self.now() - begun)
        return least

    def measure_rates(self) -> None:
        """Fill ``matrix_rates`` and ``bandwidth``."""
        size = 8192 if self.gpu else 1024
        for dtype in (torch.float32, torch.bfloat16):
            square = torch.randn(size, size, device=self.kind).to(dtype)
            # A rate is a ceiling, so more repeats than elsewhere.
            seconds = self.seconds(lambda square=square: square @ square, 10)
            self.matrix_rates[str(dtype).removeprefix("torch.")] = 2.0 * size**3 / seconds
        source = torch.ones(1 << (30 if self.gpu else 26), dtype=torch.float32, device=self.kind)
        target = torch.empty_like(source)
        self.bandwidth = 2.0 * source.nbytes / self.seconds(lambda: target.copy_(source), 5)

    def peak_bytes(self, work: Work) -> int:
        """Memory that the work needs beyond what is held before it."""
        if self.gpu:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            work()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - before
        with _ResidentPeak() as peak:
            work()
        return peak.grown

    def tensor(self, *shape: int) -> Tensor:
        """Normal random numbers."""
        return torch.randn(*shape, device=self.kind)


class _ResidentPeak:
    """Looks at the resident memory every few milliseconds: what a run takes, not what the process ever took."""

    def __enter__(self) -> _ResidentPeak:
        self.before = self.highest = resident_bytes()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.highest = max(self.highest, resident_bytes())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()

    @property
    def grown(self) -> int:
        return max(self.highest, resident_bytes()) - self.before


def resident_bytes() -> int:
    """Memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
