"""The memory behind the pages of a prefix cache: one tensor, allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PrefixMemory:
    """States of prefixes, ``[layers, pages · page tokens, width]``.

    Args:
        layers: of the ranker.
        width: of its states.
        pages: how many.
        page_tokens: tokens of each.
        dtype: of the states. One narrower than the ranker's halves the memory and costs accuracy (float16 about 1e-4,
            bfloat16 about 1e-3 of scores of size 1).
        device: where it lies.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        pages: int,
        page_tokens: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.page_tokens = page_tokens
        self.states = torch.empty(layers, pages * page_tokens, width, dtype=dtype, device=device)

    def read(self, pages: Sequence[int], tokens: int, dtype: torch.dtype) -> list[Tensor]:
        """The first tokens of a prefix in pieces, ``[layers, m, width]``: one view for each run of pages."""
        pieces, place = [], 0
        for first, count in runs(pages):
            length = min(count * self.page_tokens, tokens - place)
            if length <= 0:
                break
            start = first * self.page_tokens
            pieces.append(self.states[:, start : start + length].to(dtype))
            place += length
        return pieces

    def write(self, pages: Sequence[int], begin: int, states: Tensor) -> None:
        """Store states ``[layers, n, width]`` of the tokens from ``begin`` on."""
        place, end = 0, begin + states.shape[1]
        for first, count in runs(pages):
            low, high = max(begin, place), min(end, place + count * self.page_tokens)
            if low < high:
                start = first * self.page_tokens + low - place
                self.states[:, start : start + high - low].copy_(states[:, low - begin : high - begin])
            place += count * self.page_tokens


def runs(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Pages that follow each other, as (first, how many).

    >>> runs([4, 5, 6, 2, 9, 10])
    [(4, 3), (2, 1), (9, 2)]
    """
    if pages and tuple(pages) == tuple(range(pages[0], pages[0] + len(pages))):
        return [(pages[0], len(pages))]
    found: list[tuple[int, int]] = []
    for page in pages:
        if found and sum(found[-1]) == page:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((page, 1))
    return found
