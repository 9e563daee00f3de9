"""The optimisers of one online learner: one for layers, one for tables of identities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recascade.models.id_embedding import IdEmbedding
from recascade.training.row_adam import RowAdam
from recascade_cs3.config import CS3Config
from recascade_cs3.module import CS3Module


class Optimizers:
    """Adam for the layers and lazy Adam for the rows of identities that a batch touches.

    A batch touches few rows of a table: a step costs by the batch, not by the vocabulary. The ranker has its own
    learning rate.

    Args:
        module: whose parameters they own.
        config: of the method.
    """

    def __init__(self, module: CS3Module, config: CS3Config) -> None:
        rows = {id(table.weight) for table in module.modules() if isinstance(table, IdEmbedding)}
        ranker = set() if module.ranker is None else {id(parameter) for parameter in module.ranker.parameters()}
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for parameter in module.parameters():
            groups.setdefault((id(parameter) in rows, id(parameter) in ranker), []).append(parameter)
        rates = {False: config.learning_rate, True: config.ranker.learning_rate}
        dense, sparse = (
            [
                {"params": groups[of_rows, of_ranker], "lr": rates[of_ranker]}
                for of_ranker in (False, True)
                if (of_rows, of_ranker) in groups
            ]
            for of_rows in (False, True)
        )
        self.dense = torch.optim.Adam(dense, fused=True)
        self.sparse = RowAdam(sparse) if sparse else None

    def step(self, loss: Tensor) -> None:
        """One step of both down the gradient of a scalar loss."""
        for parameter in self.parameters():
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for _, optimizer in self.named():
            optimizer.step()

    def parameters(self) -> Iterator[Tensor]:
        """All of both."""
        for _, optimizer in self.named():
            for group in optimizer.param_groups:
                yield from group["params"]

    def named(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """Both, or the one there is, by name."""
        named: list[tuple[str, torch.optim.Optimizer | None]] = [("dense", self.dense), ("sparse", self.sparse)]
        return [(name, optimizer) for name, optimizer in named if optimizer is not None]
