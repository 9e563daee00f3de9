"""Who gets an item that several slots of one block want.

One pass gives a row of logits per slot of the block; the rules turn the rows into distinct choices, without another
pass.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_FORBIDDEN = -1e9


def commit(logits: Tensor, rule: str) -> Tensor:
    """The item of each slot: int64 ``[B, k]``, distinct wherever a row has any item left.

    Args:
        logits: float ``[B, k, n]``; -inf forbids an item, and a row of -inf alone is a slot without candidates, whose
            choice has no meaning.
        rule: ``greedy`` (slots in order), ``confidence`` (the largest logit first, UniRank's rule) or ``hungarian``
            (the assignment of greatest sum).
    """
    if logits.shape[1] == 1:
        return logits.argmax(2)
    return {"greedy": _greedy, "confidence": _confident, "hungarian": _assigned}[rule](logits)


def _greedy(logits: Tensor) -> Tensor:
    left = logits.clone()
    choices = []
    for slot in range(logits.shape[1]):
        choice = left[:, slot].argmax(1)
        left.scatter_(2, choice[:, None, None].expand(-1, logits.shape[1], 1), -torch.inf)
        choices.append(choice)
    return torch.stack(choices, 1)


def _confident(logits: Tensor) -> Tensor:
    lists, slots, items = logits.shape
    left = logits.clone()
    choices = torch.zeros(lists, slots, dtype=torch.int64, device=logits.device)
    rows = torch.arange(lists, device=logits.device)
    for _ in range(slots):
        value, place = left.flatten(1).max(1)
        slot, item = place // items, place % items
        # Where nothing is left, the place means nothing: write back what stands there.
        choices[rows, slot] = torch.where(value > -torch.inf, item, choices[rows, slot])
        left[rows, slot] = -torch.inf
        left[rows, :, item] = -torch.inf
    return choices


def _assigned(logits: Tensor) -> Tensor:
    worth = np.nan_to_num(logits.detach().cpu().double().numpy(), neginf=_FORBIDDEN)
    # SciPy solves one assignment at a time.
    choices = np.zeros(logits.shape[:2], dtype=np.int64)
    for number, matrix in enumerate(worth):
        slots, items = linear_sum_assignment(matrix, maximize=True)
        choices[number, slots] = items
    return torch.from_numpy(choices).to(logits.device)
