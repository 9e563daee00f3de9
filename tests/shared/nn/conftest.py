"""A generator that costs nothing: every id's log-probability is fixed by random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams


@dataclass
class RandomState:
    """One row of numbers per request."""

    rows: Tensor

    @property
    def batch_size(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rows.device


class RandomGenerator:
    """The next code's distribution depends on the request and on all codes so far."""

    max_length = 10

    def __init__(self, sizes: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.sizes = sizes
        width = 8
        self.codes = [torch.randn(size, width, generator=random, dtype=dtype) for size in sizes]
        self.heads = [2 * torch.randn(width, size, generator=random, dtype=dtype) for size in sizes]
        self.users = torch.randn(1000, width, generator=random, dtype=dtype)

    def encode(self, context: Context) -> RandomState:
        return RandomState(self.users[context.users % len(self.users)])

    def step(self, state: RandomState, beams: Beams) -> Tensor:
        hidden = state.rows[:, None]
        for level in range(beams.codes.shape[2]):
            hidden = torch.tanh(1.3 * hidden + self.codes[level][beams.codes[..., level]])
        return (hidden @ self.heads[beams.codes.shape[2]]).log_softmax(-1)

    def log_prob(self, state: RandomState, codes: Tensor) -> Tensor:
        total = torch.zeros(codes.shape[:2], dtype=state.rows.dtype)
        for level in range(codes.shape[2]):
            log_probs = self.step(state, Beams(codes[..., :level], torch.zeros_like(codes[..., 0])))
            log_probs = log_probs.expand(*codes.shape[:2], -1)
            total += log_probs.gather(2, codes[..., level : level + 1])[..., 0]
        return total


@pytest.fixture
def random_generator() -> Callable[..., RandomGenerator]:
    return RandomGenerator


@pytest.fixture
def requests_of() -> Callable[[int], Context]:
    """So many requests without history."""

    def make(batch_size: int) -> Context:
        none = torch.zeros(0, dtype=torch.int64)
        return Context(torch.arange(batch_size), none, none, torch.zeros(batch_size + 1, dtype=torch.int64))

    return make
