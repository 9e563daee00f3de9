"""Semantic ids inside the text of a language model: one token of the vocabulary per code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recascade.errors import DataError


class FoundIds(NamedTuple):
    """The ids in N responses: ``ids`` int64 ``[N, M, L]``, -1 where a response has fewer than M, and ``starts`` int64
    ``[N]``, where the first begins, -1 in a response without any."""

    ids: Tensor
    starts: Tensor


class CodeTokens:
    """Which token writes which code.

    Args:
        tokens: for each of L levels the token of each code, as ``<s_a_0>``, ``<s_a_1>`` … of OpenOneRec.

    Raises:
        DataError: one token stands for two codes.
    """

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        flat = torch.tensor([token for level in tokens for token in level])
        if len(torch.unique(flat)) < len(flat):
            raise DataError("A token stands for two codes; every code of every level needs a token of its own.")
        self.sizes = tuple(len(level) for level in tokens)
        self._tokens = [torch.tensor(level) for level in tokens]
        # One row more, for every token beyond the greatest that writes a code.
        self._level = torch.full((int(flat.max()) + 2,), -1)
        self._code = torch.full_like(self._level, -1)
        for number, level in enumerate(self._tokens):
            self._level[level] = number
            self._code[level] = torch.arange(len(level))

    def write(self, ids: Tensor) -> Tensor:
        """The tokens of ids, both int64 ``[..., L]`` and without absent ones."""
        levels = [level.to(ids.device)[ids[..., number]] for number, level in enumerate(self._tokens)]
        return torch.stack(levels, dim=-1)

    def find(self, responses: Tensor) -> FoundIds:
        """All ids in responses: runs of L tokens whose levels are 0 … L-1.

        Args:
            responses: int64 ``[N, T]``, padded with any token that writes no code.
        """
        count = len(self.sizes)
        if responses.shape[1] < count:
            nothing = torch.full((len(responses), 1, count), -1, device=responses.device)
            return FoundIds(nothing, nothing[:, 0, 0])
        rows = responses.clamp(max=len(self._level) - 1)
        windows = self._level.to(rows.device)[rows].unfold(1, count, 1)
        begins = (windows == torch.arange(count, device=rows.device)).all(-1)
        most = max(1, int(begins.sum(1).max())) if len(begins) else 1
        places = torch.argsort(~begins, dim=1, stable=True)[:, :most]
        there = begins.gather(1, places)
        codes = self._code.to(rows.device)[rows].unfold(1, count, 1)
        ids = codes.gather(1, places[..., None].expand(-1, -1, count)).masked_fill(~there[..., None], -1)
        return FoundIds(ids, torch.where(there[:, 0], places[:, 0], -1))


def padded_targets(targets: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Target ids of P prompts as int64 ``[P, T, L]``, -1 where a prompt has fewer than T.

    Raises:
        DataError: a prompt has no target.
    """
    if not all(len(one) for one in targets):
        raise DataError(
            f"Prompt {next(row for row, one in enumerate(targets) if not len(one))} of the batch (counted from 0) has "
            "no target id."
        )
    most = max(len(one) for one in targets)
    absent = [-1] * len(targets[0][0])
    return torch.tensor([[*map(list, one), *[absent] * (most - len(one))] for one in targets])
