"""A table of yes and no, eight to a byte."""

from __future__ import annotations

import torch
from torch import Tensor


class BitTable:
    """R rows of C bits.

    Args:
        rows: int64 ``[n]``, where the bits that are set stand.
        columns: int64 ``[n]``; no (row, column) twice.
        shape: R and C.

    Attributes:
        bytes: uint8 ``[R, ceil(C / 8)]``; column c is bit ``c % 8`` of byte ``c // 8``.
    """

    def __init__(self, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> None:
        self.columns = shape[1]
        width = -(-shape[1] // 8)
        bits = torch.ones_like(columns, dtype=torch.uint8) << (columns % 8).to(torch.uint8)
        self.bytes = torch.zeros(shape[0] * width, dtype=torch.uint8, device=rows.device)
        self.bytes.index_add_(0, rows * width + columns // 8, bits)
        self.bytes = self.bytes.view(shape[0], width)

    def rows(self, rows: Tensor) -> Tensor:
        """Whole rows (int64 ``[...]``) as bool ``[..., C]``."""
        places = torch.arange(8, dtype=torch.uint8, device=rows.device)
        bits = (self.bytes[rows][..., None] >> places) & 1
        return bits.flatten(-2)[..., : self.columns].bool()

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Single bits, bool, at rows and columns that broadcast against each other."""
        place = rows * self.bytes.shape[1] + (columns >> 3)
        byte = self.bytes.view(-1)[place]
        return ((byte >> (columns & 7).to(torch.uint8)) & 1).bool()
