"""One vector per item or user from its features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from recascade.nn.bag import bag_sum

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class FeatureEncoder(nn.Module):
    """Sum of the embeddings of all categories (their mean in a multi-valued feature) and a linear map of quantities.

    A row of features is a sparse vector over one matrix that holds the embeddings of all columns: 1 at the code of a
    category, one n-th at each of n values, a quantity itself at its column. So one operator serves them all.

    A row outside of the table, -1 or from N on, is unknown: it has code 0 (missing) in every single-valued feature, no
    values in the others and quantities of 0 (the mean). So the table serves a vocabulary that outgrew it.

    The features themselves are buffers that are not saved with the weights: they belong to the data.

    Args:
        table: features of N rows.
        dimension: width d of the vectors.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
    """

    codes: Tensor
    weights: Tensor
    offsets: Tensor

    def __init__(self, table: FeatureTable, dimension: int, initial_deviation: float = 0.02) -> None:
        super().__init__()
        self.rows = len(table)
        cardinalities = [*table.cardinalities, *[1] * len(table.numeric_names)]
        cardinalities += [feature.cardinality for feature in table.multi_valued]
        starts = np.cumsum([0, *cardinalities])
        # Row N is the unknown row.
        singles = np.pad(np.asarray(table.categorical, dtype=np.int64), ((0, 1), (0, 0)))
        quantities = np.pad(np.asarray(table.numeric), ((0, 1), (0, 0)))
        every = np.arange(self.rows + 1)
        rows, codes, weights = [], [], []
        for column, values in enumerate(singles.T):
            rows.append(every)
            codes.append(values + starts[column])
            weights.append(np.ones(len(every), dtype=np.float32))
        for column, values in enumerate(quantities.T, len(table.cardinalities)):
            rows.append(every)
            codes.append(np.full(len(every), starts[column]))
            weights.append(values)
        for column, feature in enumerate(table.multi_valued, len(table.cardinalities) + len(table.numeric_names)):
            lengths = np.diff(feature.offsets)
            rows.append(np.repeat(every[:-1], lengths))
            codes.append(np.asarray(feature.values, dtype=np.int64) + starts[column])
            weights.append(np.repeat((1 / np.maximum(lengths, 1)).astype(np.float32), lengths))
        order = np.argsort(np.concatenate(rows), kind="stable")
        offsets = np.searchsorted(np.concatenate(rows)[order], np.arange(self.rows + 2))
        self.register_buffer("codes", torch.from_numpy(np.concatenate(codes)[order]), persistent=False)
        self.register_buffer("weights", torch.from_numpy(np.concatenate(weights)[order]), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(offsets), persistent=False)
        self.embedding = nn.Parameter(torch.empty(int(starts[-1]), dimension))
        nn.init.normal_(self.embedding, std=initial_deviation)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these rows (int64 ``[n]``), or of all N."""
        if rows is None:
            rows = torch.arange(self.rows, device=self.codes.device)
        codes, weights, offsets = self._select(rows)
        return bag_sum(self.embedding, codes, offsets, weights)

    def mean(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """The mean vector of each bag of rows, 0 for an empty one, for less than the vectors of its rows.

        Args:
            rows: int64 ``[T]``.
            offsets: int64 ``[B + 1]``, ascending from 0 to T.

        Returns:
            ``[B, d]``.
        """
        codes, weights, starts = self._select(rows)
        sums = bag_sum(self.embedding, codes, starts.index_select(0, offsets), weights)
        return sums / offsets.diff().clamp(min=1)[:, None]

    def _select(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes and weights ``[V]`` of these rows one after the other, and their offsets ``[n + 1]``."""
        rows = rows.masked_fill((rows < 0) | (rows > self.rows), self.rows)
        starts = self.offsets.index_select(0, rows)
        lengths = self.offsets.index_select(0, rows + 1) - starts
        chosen = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(lengths, 0, out=chosen[1:])
        shift = torch.repeat_interleave(starts - chosen[:-1], lengths)
        places = torch.arange(len(shift), device=rows.device) + shift
        return self.codes.index_select(0, places), self.weights.index_select(0, places), chosen
