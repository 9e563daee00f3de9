"""Checkpoints of an online learner: one folder per stream position, whole or absent, nothing pickled.

Running means are not idempotent: an event that is learnt from twice counts twice. So weights, optimiser state, tables,
waiting events and the position in the stream are one checkpoint, and a restart goes on from exactly there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.errors import DataError
from recascade.files import read_json, write_folder_atomically, write_json
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.pending import Events

FORMAT = 1
_FOLDER = "checkpoints"
_COUNTERS = ("scored", "ticks", "steps", "watermark")


@dataclass(frozen=True)
class Position:
    """Where a stream was left.

    Attributes:
        offset: source rows that are done with.
        stream: what the stream itself must remember, whole numbers and int64 arrays.
    """

    offset: int
    stream: Mapping[str, Any]


def save_checkpoint(
    directory: Path, learner: OnlineLearner, position: Position, users: GrowingVocabulary, items: GrowingVocabulary
) -> Path:
    """Write a checkpoint and remove the older ones; a crash leaves the old or the new one, never half of one."""
    tensors, facts = _state(learner)
    for name, value in position.stream.items():
        if isinstance(value, np.ndarray):
            tensors[f"stream.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
        else:
            facts["stream"][name] = int(value)
    folder = directory / _FOLDER / f"{position.offset:015d}"
    with write_folder_atomically(folder) as temporary:
        save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, temporary / "state.safetensors")
        users.save(temporary / "users.parquet")
        items.save(temporary / "items.parquet")
        write_json(temporary / "state.json", facts | {"format": FORMAT, "offset": position.offset})
    for older in sorted(folder.parent.glob("[0-9]*")):
        if older.name < folder.name:
            shutil.rmtree(older, ignore_errors=True)
    return folder


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    folders = sorted((directory / _FOLDER).glob("[0-9]*"))
    return folders[-1] if folders else None


def load_vocabularies(checkpoint: Path) -> tuple[GrowingVocabulary, GrowingVocabulary]:
    """The users and items of a checkpoint."""
    return GrowingVocabulary.load(checkpoint / "users.parquet"), GrowingVocabulary.load(checkpoint / "items.parquet")


def restore_checkpoint(checkpoint: Path, learner: OnlineLearner) -> Position:
    """Put a learner of the same configuration into the state of a checkpoint.

    Raises:
        DataError: the checkpoint is damaged, or its learner had other shapes (another width of the ranker, say).
    """
    facts = read_json(checkpoint / "state.json")
    if facts.get("format") != FORMAT:
        raise DataError(
            f"{checkpoint} has format {facts.get('format')}, this version reads format {FORMAT}; learn in a new folder."
        )
    try:
        tensors = load_file(checkpoint / "state.safetensors")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{checkpoint / 'state.safetensors'} cannot be read ({error}); it is damaged.") from error
    learner.grow(facts["users"], facts["items"])
    _check_shapes(checkpoint, learner, tensors)
    learner.module.load_state_dict(_under(tensors, "module"))
    for name, optimizer in learner.optimizers.named():
        state = optimizer.state_dict()
        state["state"] = _optimizer_state(_under(tensors, name), facts["optimizers"][name])
        optimizer.load_state_dict(state)
    learner.tables.restore(_under(tensors, "tables"))
    learner.waiting = Events.from_tensors(_under(tensors, "waiting"))
    learner.dirty_users, learner.dirty_items = tensors["dirty_users"].numpy(), tensors["dirty_items"].numpy()
    for name in _COUNTERS:
        setattr(learner, name, facts[name])
    arrays = {name: tensor.numpy() for name, tensor in _under(tensors, "stream").items()}
    return Position(facts["offset"], facts["stream"] | arrays)


def _state(learner: OnlineLearner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"module.{name}": tensor for name, tensor in learner.module.state_dict().items()}
    tensors |= {f"tables.{name}": tensor for name, tensor in learner.tables.tensors().items()}
    tensors |= {f"waiting.{name}": tensor for name, tensor in learner.waiting.tensors().items()}
    tensors |= {
        "dirty_users": torch.from_numpy(learner.dirty_users),
        "dirty_items": torch.from_numpy(learner.dirty_items),
    }
    facts: dict[str, Any] = {name: getattr(learner, name) for name in _COUNTERS}
    facts |= {"users": len(learner.dirty_users), "items": len(learner.dirty_items), "stream": {}, "optimizers": {}}
    for name, optimizer in learner.optimizers.named():
        numbers: dict[str, dict[str, int]] = {}
        for parameter, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"{name}.{parameter}.{key}"] = value
                else:
                    numbers.setdefault(str(parameter), {})[key] = value
        facts["optimizers"][name] = numbers
    return tensors, facts


def _optimizer_state(tensors: dict[str, Tensor], numbers: dict[str, dict[str, int]]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {int(parameter): dict(values) for parameter, values in numbers.items()}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition(".")
        state.setdefault(int(parameter), {})[key] = tensor
    return state


def _check_shapes(checkpoint: Path, learner: OnlineLearner, tensors: dict[str, Tensor]) -> None:
    expected, _ = _state(learner)
    for name, tensor in expected.items():
        if not name.startswith(("module.", "tables.users.", "tables.items.")):
            continue
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = "no such values" if name not in tensors else f"shape {list(tensors[name].shape)}"
            raise DataError(
                f"The checkpoint {checkpoint} has {found} for {name}, but this configuration needs "
                f"{list(tensor.shape)} (model.ranker.width is {learner.config.ranker.width}, model.backbone.dimension "
                f"{learner.config.backbone.dimension}). Go on with the configuration of the checkpoint, or learn "
                "afresh in a new folder; its position in the stream is kept."
            )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
