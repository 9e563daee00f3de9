"""Who gets an item that several slots of one block want.

One pass gives a row of logits per slot of the block; the rules turn the rows into distinct choices, without another
pass.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from recascade.nn.list_order import commit_greedily, surplus_marked

_FORBIDDEN = -1e9


def commit(logits: Tensor, free: Tensor, rule: str) -> Tensor:
    """The candidate of each slot: int64 ``[B, k]``, distinct; -1 behind the last candidate that a list has left.

    Args:
        logits: float ``[B, k, n]``.
        free: bool ``[B, n]``, the candidates that can be had.
        rule: ``greedy`` (slots in order), ``confidence`` (the largest logit first, UniRank's rule) or ``hungarian``
            (the assignment of greatest sum).
    """
    if rule == "greedy" or logits.shape[1] == 1:
        return commit_greedily(logits, free)
    filled = torch.arange(logits.shape[1], device=logits.device) < free.sum(1, keepdim=True)
    possible = logits.masked_fill(~(free[:, None] & filled[..., None]), -torch.inf)
    choices = _confident(possible) if rule == "confidence" else _assigned(possible)
    return surplus_marked(choices, free, logits.shape[1])


def _confident(logits: Tensor) -> Tensor:
    lists, slots, candidates = logits.shape
    left = logits.clone()
    choices = torch.zeros(lists, slots, dtype=torch.int64, device=logits.device)
    rows = torch.arange(lists, device=logits.device)
    for _ in range(slots):
        value, place = left.flatten(1).max(1)
        slot, candidate = place // candidates, place % candidates
        # Where nothing is left, the place means nothing: write back what stands there.
        choices[rows, slot] = torch.where(value > -torch.inf, candidate, choices[rows, slot])
        left[rows, slot] = -torch.inf
        left[rows, :, candidate] = -torch.inf
    return choices


def _assigned(logits: Tensor) -> Tensor:
    worth = np.nan_to_num(logits.detach().cpu().double().numpy(), neginf=_FORBIDDEN)
    choices = np.zeros(logits.shape[:2], dtype=np.int64)
    # SciPy solves one assignment at a time.
    for number, matrix in enumerate(worth):
        slots, candidates = linear_sum_assignment(matrix, maximize=True)
        choices[number, slots] = candidates
    return torch.from_numpy(choices).to(logits.device)
