"""One vector per item or user from its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recascade.nn.bag import bag_sum

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class FeatureEncoder(nn.Module):
    """Sum of the embeddings of all categories (their mean in a multi-valued feature) and a linear map of quantities.

    A row outside of the table, -1 or from N on, is unknown: it has code 0 (missing) in every single-valued feature, no
    values in the others and quantities of 0 (the mean). So the table serves a vocabulary that outgrew it.

    The features themselves are buffers that are not saved with the weights: they belong to the data.

    Args:
        table: features of N rows.
        dimension: width d of the vectors.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
    """

    codes: Tensor
    quantities: Tensor

    def __init__(self, table: FeatureTable, dimension: int, initial_deviation: float = 0.02) -> None:
        super().__init__()
        # All columns share one embedding matrix, each with rows of its own, so that one operator sums them.
        starts = np.concatenate([[0], np.cumsum(table.cardinalities, dtype=np.int64)])
        # Row N of all buffers is the unknown row.
        self.rows = len(table)
        codes = np.pad(np.asarray(table.categorical, dtype=np.int64), ((0, 1), (0, 0))) + starts[:-1]
        self.register_buffer("codes", torch.from_numpy(codes), persistent=False)
        quantities = np.pad(np.asarray(table.numeric), ((0, 1), (0, 0)))
        self.register_buffer("quantities", torch.from_numpy(quantities), persistent=False)
        self.categories = nn.Parameter(torch.empty(int(starts[-1]), dimension))
        self.linear = nn.Linear(table.numeric.shape[1], dimension, bias=False) if table.numeric.shape[1] else None
        self.multi_valued = nn.ParameterList()
        for number, feature in enumerate(table.multi_valued):
            self.register_buffer(f"values_{number}", _tensor(feature.values), persistent=False)
            offsets = np.append(feature.offsets, feature.offsets[-1])
            self.register_buffer(f"offsets_{number}", _tensor(offsets), persistent=False)
            self.multi_valued.append(nn.Parameter(torch.empty(feature.cardinality, dimension)))
        for embedding in (self.categories, *self.multi_valued):
            nn.init.normal_(embedding, std=initial_deviation)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these rows (int64 ``[n]``), or of all N."""
        if rows is None:
            rows = torch.arange(self.rows, device=self.codes.device)
        else:
            rows = rows.masked_fill((rows < 0) | (rows > self.rows), self.rows)
        vectors = self._sum_of_categories(self.codes.index_select(0, rows))
        if self.linear is not None:
            vectors = vectors + self.linear(self.quantities.index_select(0, rows))
        for number, embedding in enumerate(self.multi_valued):
            values, offsets = _select(self.get_buffer(f"values_{number}"), self.get_buffer(f"offsets_{number}"), rows)
            vectors = vectors + bag_sum(embedding, values, offsets) / offsets.diff().clamp(min=1)[:, None]
        return vectors

    def _sum_of_categories(self, codes: Tensor) -> Tensor:
        """``[n, d]`` from the codes ``[n, C]`` of all single-valued features; 0 where there are none."""
        offsets = torch.arange(len(codes) + 1, device=codes.device) * codes.shape[1]
        return bag_sum(self.categories, codes.flatten(), offsets)


def _select(values: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The values of these rows one after the other, and their offsets ``[n + 1]``."""
    starts = offsets.index_select(0, rows)
    lengths = offsets.index_select(0, rows + 1) - starts
    chosen = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(lengths, 0, out=chosen[1:])
    shift = torch.repeat_interleave(starts - chosen[:-1], lengths)
    places = torch.arange(len(shift), device=rows.device) + shift
    return values.index_select(0, places), chosen


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.int64))
