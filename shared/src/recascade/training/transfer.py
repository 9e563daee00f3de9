"""Batches on their way to the device, ahead of the step that needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

import lightning.pytorch as L
import torch
from torch import Tensor

from recascade.data.loader import ResumableLoader

Batch = TypeVar("Batch")


class TransferAhead(L.Callback):
    """Has the training loader's batches moved to the module's device while the step before computes."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the stage into the loader, which has not begun yet."""
        loader = trainer.train_dataloader
        if isinstance(loader, ResumableLoader):
            loader.stage = partial(moved_ahead, device=pl_module.device)


def moved_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on ``device``, in their order.

    For a GPU, the next batch is copied from pinned memory on a stream of its own while the current one is computed
    with; neither the CPU nor the computing stream waits, unless the copy is slower than the step. For a CPU there is
    nothing to move.

    Args:
        batches: frozen dataclasses of tensors (or of such dataclasses, or of other values, which stay).
        device: where the steps compute.
    """
    return batches if device.type != "cuda" else _copied_ahead(batches, device)


def _copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copying):
            moved = with_tensors(batch, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
            arrived = copying.record_event()
        if ahead is not None:
            yield _received(*ahead)
        ahead = (moved, arrived)
    if ahead is not None:
        yield _received(*ahead)


def _received(batch: Batch, arrived: torch.cuda.Event) -> Batch:
    """Make the computing stream wait for a batch, and its memory for the computing stream."""
    computing = torch.cuda.current_stream()
    computing.wait_event(arrived)

    def keep(tensor: Tensor) -> Tensor:
        tensor.record_stream(computing)
        return tensor

    return with_tensors(batch, keep)


def with_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The same batch with every tensor changed, those of dataclasses inside it too."""
    value: Any = batch
    if isinstance(value, Tensor):
        changed: Any = change(value)
        return changed  # type: ignore[no-any-return]
    if not is_dataclass(value) or isinstance(value, type):
        return batch
    members = {field.name: with_tensors(getattr(value, field.name), change) for field in fields(value) if field.init}
    return replace(value, **members)  # type: ignore[return-value]
