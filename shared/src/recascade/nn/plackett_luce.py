"""Orders as choices one after another (Luce 1959; Plackett 1975): the common language of scorers and list generators.

A scorer that sorts is a Plackett–Luce model: at each slot it chooses among the candidates left over with probabilities
``softmax(scores)``. A generator states such a choice at each slot directly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recascade.nn.list_losses import masked_log_softmax
from recascade.nn.masked_softmax import masked_softmax


def choice_sets(order: Tensor, mask: Tensor) -> Tensor:
    """bool ``[B, m, n]``: who can still be chosen at each slot, all real candidates but those of earlier slots.

    Args:
        order: int64 ``[B, m]``, the candidate at each slot.
        mask: bool ``[B, n]``, True for a real candidate.
    """
    chosen = one_hot(order, mask.shape[1])
    earlier = chosen.cumsum(1) - chosen
    return mask[:, None] & (earlier == 0)


def slot_discounts(slots: int, device: torch.device) -> Tensor:
    """float32 ``[m]``, ``1 / log2(1 + j)`` of the slots j = 1…m, the discount of NDCG."""
    return 1.0 / torch.log2(torch.arange(2, slots + 2, dtype=torch.float32, device=device))


def choice_divergence(
    teacher_logits: Tensor,
    student_logits: Tensor,
    sets: Tensor,
    *,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
) -> Tensor:
    """Kullback–Leibler divergence of two models' choices at each slot, ``KL(teacher || student)``.

    Args:
        teacher_logits: float ``[B, m, n]``.
        student_logits: float, broadcasts with it; a scorer's ``[B, 1, n]`` are the same at each slot.
        sets: bool ``[B, m, n]`` of ``choice_sets``.
        teacher_temperature: τ, divides the teacher's logits.
        student_temperature: likewise.

    Returns:
        float ``[B, m]``; 0 where at most one candidate is left.
    """
    teacher = teacher_logits / teacher_temperature
    student = student_logits.expand(sets.shape) / student_temperature
    difference = masked_log_softmax(teacher, sets) - masked_log_softmax(student, sets)
    return (masked_softmax(teacher, sets) * difference).sum(-1)


def order_log_likelihood(scores: Tensor, order: Tensor, mask: Tensor) -> Tensor:
    """``log P(order | scores)`` slot by slot, whose negative sum is ListMLE (Xia et al., ICML 2008).

    Args:
        scores: float ``[B, n]``.
        order: int64 ``[B, m]``.
        mask: bool ``[B, n]``.

    Returns:
        float ``[B, m]``; 0 at slots behind the list's end.
    """
    sets = choice_sets(order, mask)
    log_choices = masked_log_softmax(scores[:, None].expand(sets.shape), sets)
    return log_choices.gather(2, order[..., None])[..., 0]
