"""Generative retrieval: models that write the id of an item code by code, and what a search needs of them."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from recascade.contracts.context import Context


class Beams(NamedTuple):
    """The unfinished ids of B requests, n each, which a search wants extended by one level.

    Attributes:
        codes: int64 ``[B, n, t]``, the codes of the first t levels; t = 0 and n = 1 at the start.
        parents: int64 ``[B, n]``, the place that each beam's prefix had among the beams of the step before; 0 at the
            start.
    """

    codes: Tensor
    parents: Tensor

    @classmethod
    def start(cls, batch_size: int, device: torch.device) -> Beams:
        """One empty id per request."""
        shape = (batch_size, 1)
        return cls(
            torch.zeros(*shape, 0, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=torch.int64, device=device),
        )


class GeneratorState(Protocol):
    """What a generator computes once per batch of requests; what else it holds is the generator's own business."""

    @property
    def batch_size(self) -> int:
        """B, the number of requests."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the requests are."""
        ...


State = TypeVar("State", bound=GeneratorState)


@runtime_checkable
class Generator(Protocol[State]):
    """A distribution over ids of L codes, given a request: TIGER, a decoder-only model, GR4AD.

    Everything that does not depend on the codes belongs into ``encode``: keys and values of the context, or the layers
    of a lazy decoder that read no codes.

    Attributes:
        sizes: how many codes each of the L levels has.
        max_length: the most events of a history that ``encode`` accepts.
    """

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level."""
        ...

    @property
    def max_length(self) -> int:
        """Most events of a history."""
        ...

    def encode(self, context: Context) -> State:
        """Read B requests, once."""
        ...

    def log_prob(self, state: State, codes: Tensor) -> Tensor:
        """Log-probability float ``[B, n]`` of whole ids, int64 ``[B, n, L]``; the state stays as it is."""
        ...

    def step(self, state: State, beams: Beams) -> Tensor:
        """Log-probabilities float ``[B, n, sizes[t]]`` of the next code after each beam's t codes.

        The state may keep a cache of the step before, which is reordered by ``beams.parents``: after a step with t
        codes may come one with t + 1, or one with none, which begins anew.
        """
        ...
