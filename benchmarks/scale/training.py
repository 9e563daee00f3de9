"""Training steps of SASRec and HSTU: tokens per second, share of the matrix-product rate, memory, waiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.hstu import HSTU
from recascade.models.sasrec import SASRec
from recascade.nn.losses import sampled_softmax
from scale.device import Device

DIMENSION, BLOCKS, HEADS, NEGATIVES = 256, 4, 4, 1024
MODELS: dict[str, Callable[..., nn.Module]] = {"SASRec": SASRec, "HSTU": HSTU}
# What makes a GPU's host wait.
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")


class TrainingStep:
    """A model, its optimiser and one batch of full sequences.

    Args:
        device: where.
        name: of ``MODELS``.
        length: events of each sequence.
        tokens: events of the batch, about.
        items: of the catalogue.
        compiled: through ``torch.compile``.
    """

    def __init__(self, device: Device, name: str, *, length: int, tokens: int, items: int, compiled: bool) -> None:
        torch.manual_seed(0)
        self.device, self.name, self.length, self.items = device, name, length, items
        sequences = max(1, tokens // length)
        self.tokens = sequences * length
        # Attention without dropout: the kernels for packed events on a GPU drop no weights.
        self.model = MODELS[name](items, DIMENSION, BLOCKS, HEADS, length, 0.0).to(device.kind)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        chosen = torch.randint(items, (self.tokens,))
        times = torch.arange(self.tokens) * 3600
        offsets = torch.arange(sequences + 1) * length
        self.context = Context(torch.arange(sequences), chosen, times, offsets).to(device.kind)
        self.targets = torch.randint(items, (self.tokens,), device=device.kind)
        self._loss = torch.compile(self.loss, dynamic=True, fullgraph=True) if compiled else self.loss

    @property
    def dtype(self) -> str:
        """Of the matrix products."""
        return "bfloat16" if self.device.gpu else "float32"

    @property
    def operations(self) -> float:
        """Multiplications and additions of a step's matrix products, without those for future events."""
        # Weights per layer: SASRec's four of the attention and two of the feed-forward net; HSTU's four and one.
        weights = (6 if self.name == "SASRec" else 5) * DIMENSION**2
        seen = (self.length + 1) / 2
        return 3.0 * self.tokens * (BLOCKS * (2 * weights + 4 * DIMENSION * seen) + 2 * DIMENSION * NEGATIVES)

    def loss(self) -> Tensor:
        """Sampled softmax after every event."""
        negatives = torch.randint(self.items, (NEGATIVES,), device=self.device.kind)
        vectors = self.model.item_vectors(torch.cat([self.targets, negatives]))  # type: ignore[operator]
        states = self.model.states(self.context)  # type: ignore[operator]
        collisions = self.targets[:, None] == negatives
        return sampled_softmax(states, vectors[: self.tokens], vectors[self.tokens :], collisions=collisions)

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        with self._precision():
            loss = self._loss()
        loss.backward()
        self.optimizer.step()

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.gpu else nullcontext()

    def figures(self) -> dict[str, float]:
        """Tokens per second, share of the rate, bytes beyond model and optimiser."""
        memory = self.device.peak_bytes(self)
        seconds = self.device.seconds(self)
        share = self.operations / seconds / self.device.matrix_rates[self.dtype]
        return {"tokens_per_second": self.tokens / seconds, "share": share, "bytes": float(memory)}

    def profile(self) -> dict[str, float]:
        """Share of a step's own time by operator, the ten greatest; on a GPU also how often the host waited."""
        self()
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device.gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            self()
        events = profile.key_averages()
        times = {event.key: event.self_device_time_total or event.self_cpu_time_total for event in events}
        whole = sum(times.values())
        greatest = sorted(times, key=times.__getitem__, reverse=True)[:10]
        found = {f"time:{name}": times[name] / whole for name in greatest}
        if self.device.gpu:
            found["waits"] = float(sum(event.count for event in events if event.key.startswith(_WAITS)))
        return found
