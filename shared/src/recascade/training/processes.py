"""Several processes that train together: where this one stands, and whether all were given the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import torch
import torch.distributed as dist

from recascade.errors import ConfigurationError, TrainingError
from recascade.training.config import TrainerConfig


@dataclass(frozen=True)
class Place:
    """One process among those that train together.

    Attributes:
        rank: from 0.
        processes: their number, on all machines.
        local_processes: their number on this machine, one per device.
    """

    rank: int = 0
    processes: int = 1
    local_processes: int = 1


def current_place() -> Place:
    """What the variables ``RANK``, ``WORLD_SIZE`` and ``LOCAL_WORLD_SIZE`` say, which ``torchrun`` and
    ``recascade run`` set; without them a process is alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    return Place(*(int(os.environ[name]) for name in names)) if set(names) <= os.environ.keys() else Place()


def place_for(trainer: TrainerConfig) -> Place:
    """The place of this process in a fit with these settings.

    Raises:
        ConfigurationError: not as many processes were started on this machine as ``trainer.devices`` says.
    """
    place = current_place()
    if place.local_processes != trainer.devices:
        raise ConfigurationError(
            f"trainer.devices is {trainer.devices}, but this machine has {place.local_processes} training process"
            f"{'es' if place.local_processes > 1 else ''}. Use `recascade run`, which starts one per device, or start "
            f"your script by `torchrun --nproc-per-node {trainer.devices}`."
        )
    return place


def require_agreement(facts: Mapping[str, object], device: torch.device) -> None:
    """Refuse processes that were given different things: they would wait for each other, or train on nonsense.

    Args:
        facts: name → value with a ``repr`` that says all; the names are the same in every process of one version.
        device: where the processes exchange tensors.

    Raises:
        TrainingError: in every process alike, naming the first process that differs, and in what.
    """
    if not dist.is_initialized():
        return
    for name, values in (("the version of recascade", sorted(facts)), *sorted(facts.items())):
        digest = blake2b(repr(values).encode(), digest_size=8).digest()
        own = torch.tensor([int.from_bytes(digest, signed=True)], device=device)
        all_values = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(all_values, own)
        for rank, value in enumerate(all_values):
            if not torch.equal(value, all_values[0]):
                raise TrainingError(
                    f"Process {rank} differs from process 0 in {name}. Processes that train together must be given the "
                    "same data and settings; give every machine the same files and the same command."
                )
