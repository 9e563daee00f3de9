"""More users and items in a model that is being trained."""

from __future__ import annotations

from zlib import crc32

import torch
from torch import Tensor, nn

from recascade.models.id_embedding import IdEmbedding


def grow_embeddings(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, users: int = 0, items: int = 0, seed: int = 0
) -> None:
    """Grow every ``IdEmbedding`` of a model, and its optimizer's state, to these numbers of users and items.

    Old rows keep their values, and their optimizer's state, bit for bit; tables that have as many rows already stay as
    they are. New rows depend on the seed, the table's name in the model and their number alone, so that one may grow
    ahead of the vocabulary, by doubling, and need not copy a table for each new identity. They have the state of rows
    that no gradient has reached. Gradients of grown tables are dropped: grow between steps. Fused optimizers round what
    follows the last full vector register otherwise; with them, bit for bit needs a width that is a multiple of 16.

    Args:
        model: holds the tables.
        optimizer: Adam, AdamW, SparseAdam, Adagrad, or another one whose state of a parameter is made of scalars and
            of tensors of its shape; None for a model that is not trained.
        users: the least number of users.
        items: the least number of items.
        seed: of the values of new rows.
    """
    for name, module in model.named_modules():
        if isinstance(module, IdEmbedding):
            old = module.weight
            count = users if module.entity == "user" else items
            new = module.grow(count, (seed << 32) + crc32(name.encode()))
            if optimizer is not None and new is not old:
                _replace(optimizer, old, new)


def _replace(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> None:
    """Put a parameter with appended rows in the place of another one, with its state."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        if any(parameter is new for parameter in group["params"]):
            # Adagrad's sums begin at a value of their own; all other states begin at 0.
            beginnings = {"sum": group.get("initial_accumulator_value", 0.0)}
            state = optimizer.state.pop(old, None)
            if state is not None:
                optimizer.state[new] = {
                    key: _padded(value, len(new), beginnings.get(key, 0.0)) if _like(value, old) else value
                    for key, value in state.items()
                }


def _like(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _padded(value: Tensor, rows: int, beginning: float) -> Tensor:
    appended = value.new_full((rows - len(value), *value.shape[1:]), beginning)
    return torch.cat([value, appended])
