"""An evaluation shared out among processes, batch by batch, that gives every process the numbers of a single one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Shard:
    """The batches that this process computes: every ``count``-th, from ``rank`` on.

    A batch is the same whoever computes it, and what was computed is put together without arithmetic. So, on equal
    machines with equal numbers of threads, results are those of one process bit for bit.

    Attributes:
        rank: of this process, from 0.
        count: processes that share the evaluation; each must run it. With more than 1, ``torch.distributed`` has been
            initialised.
        device: where the processes exchange tensors.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    def starts(self, rows: int, batch_rows: int) -> Iterator[int]:
        """First rows of this process's batches of ``batch_rows`` rows."""
        return iter(range(self.rank * batch_rows, rows, self.count * batch_rows))

    def merge(self, values: NDArray[Number]) -> NDArray[Number]:
        """The array that all processes filled together, each the rows of its own batches and 0 elsewhere."""
        if self.count == 1:
            return values
        # Bytes, so that nothing is added but zeros: not-a-number and minus zero come through too.
        part = torch.from_numpy(np.ascontiguousarray(values).view(np.uint8).reshape(-1)).to(self.device)
        dist.all_reduce(part)
        return part.cpu().numpy().view(values.dtype).reshape(values.shape)


ALONE = Shard()
