"""How close an answer comes to a target: the length of the common prefix of their semantic ids (ReCast, §3.1).

Ids are int64 ``[..., L]``, coarse code first; an id with a negative code is absent, which pads sets of different sizes
and stands for what could not be parsed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct(ids: Tensor) -> Tensor:
    """Which of a response's ids (int64 ``[P, G, M, L]``) count in its set: bool ``[P, G, M]``.

    Absent ids do not, nor do repetitions of an earlier one.
    """
    same = (ids[:, :, :, None] == ids[:, :, None]).all(-1)
    earlier = torch.ones(ids.shape[2], ids.shape[2], dtype=torch.bool, device=ids.device).tril(-1)
    return (ids >= 0).all(-1) & ~(same & earlier).any(-1)


def shared_codes(ids: Tensor, targets: Tensor) -> Tensor:
    """The longest prefix that each id shares with a target of its prompt.

    Args:
        ids: int64 ``[P, G, M, L]``.
        targets: int64 ``[P, T, L]``, T at least 1.

    Returns:
        int64 ``[P, G, M]``, 0 to L; -1 where there is no id.
    """
    equal = (ids[:, :, :, None] == targets[:, None, None]).cumprod(-1).sum(-1)
    equal = equal.masked_fill((targets < 0).any(-1)[:, None, None], 0).amax(-1)
    return equal.masked_fill((ids < 0).any(-1), -1)


def closeness(shared: Tensor, levels: int) -> Tensor:
    """φ of ids that share so many codes with the nearest target: ``10^(m - L)`` for m ≥ 1 common codes, else 0.

    For three levels the paper's 1, 0.1, 0.01, 0; for any other number inferred.

    Args:
        shared: int64 ``[...]``, m; -1 where there is no id.
        levels: L.

    Returns:
        float32 ``[...]``.
    """
    table = 10.0 ** torch.arange(-levels, 1, dtype=torch.float64)
    table[0] = 0
    return table.float().to(shared.device)[shared.clamp(min=0)]


def structural_score(ids: Tensor, targets: Tensor) -> Tensor:
    """u of each response: the mean over its set of ids of φ to the nearest target (§3.1). It selects, it never rewards.

    Args:
        ids: int64 ``[P, G, M, L]``.
        targets: int64 ``[P, T, L]``.

    Returns:
        float32 ``[P, G]``, 0 for an empty set.
    """
    counted = distinct(ids)
    near = closeness(shared_codes(ids, targets), ids.shape[-1]) * counted
    return near.sum(-1) / counted.sum(-1).clamp(min=1)
