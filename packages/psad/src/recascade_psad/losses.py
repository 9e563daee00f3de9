"""What the teacher learns from clicks, and the student from the teacher. (What the student learns from clicks is any
scorer's loss, ``recascade.nn.list_losses``.)

Labels may be grades; a label above 0 is a click, and what is learnt is in proportion to it (our choice).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recascade.nn.list_losses import masked_log_softmax, mean_where
from recascade.nn.masked_softmax import masked_softmax
from recascade.nn.plackett_luce import choice_divergence, choice_sets, order_log_likelihood, slot_discounts
from recascade_psad.blocks import free_before_block, valid_slots


def gold_order(labels: Tensor, mask: Tensor, slots: int) -> Tensor:
    """int64 ``[B, m]``: candidates by label, equals in the earlier stage's order, padding last."""
    keys = labels.masked_fill(~mask, -torch.inf)
    return keys.argsort(dim=1, descending=True, stable=True)[:, :slots]


def slot_targets(labels: Tensor, mask: Tensor, prefix: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """What the teacher should choose at each slot behind the given earlier blocks: clicked candidates that are left,
    in proportion to their labels; where none is left, any of the others (inferred; cf. Seq2Slate's supervised loss).

    Args:
        labels: float ``[B, n]``.
        mask: bool ``[B, n]``.
        prefix: int64 ``[B, m]``, any order.
        block: K.

    Returns:
        Distributions ``[B, m, n]`` (zeros at slots behind the list's end), and bool ``[B, m]``, whether a clicked
        candidate was left.
    """
    free = free_before_block(prefix, mask, block) & valid_slots(mask, prefix.shape[1])[..., None]
    left = labels[:, None] * free
    clicked = left.sum(-1) > 0
    wanted = torch.where(clicked[..., None], left, free.float())
    return wanted / wanted.sum(-1, keepdim=True).clamp(min=1e-12), clicked


def teacher_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, prefix: Tensor, block: int, unclicked_weight: float
) -> Tensor:
    """Scalar: cross-entropy to ``slot_targets``, slots weighed by ``1 / log2(1 + j)`` (inferred); the mean over lists
    with a click, 0 where there is none.

    Args:
        logits: float ``[B, m, n]`` behind ``prefix``.
        labels: float ``[B, n]``.
        mask: bool ``[B, n]``.
        prefix: int64 ``[B, m]``.
        block: K.
        unclicked_weight: ε, of slots for which no clicked candidate is left.
    """
    targets, clicked = slot_targets(labels, mask, prefix, block)
    free = free_before_block(prefix, mask, block)
    entropies = -(targets * masked_log_softmax(logits, free)).sum(-1)
    weights = slot_discounts(prefix.shape[1], logits.device) * torch.where(clicked, 1.0, unclicked_weight)
    weights = weights * valid_slots(mask, prefix.shape[1])
    losses = (weights * entropies).sum(1) / weights.sum(1).clamp(min=1e-12)
    return mean_where(losses, (labels > 0).any(1))


def plackett_luce_distillation(
    logits: Tensor, scores: Tensor, order: Tensor, mask: Tensor, temperature: float, student_temperature: float
) -> Tensor:
    """``[B]``: at each slot of the teacher's list, its choice among all candidates left against the student's, read as
    a Plackett–Luce model; slots weighed by ``1 / log2(1 + j)`` (inferred).

    Args:
        logits: float ``[B, m, n]``, the teacher's along ``order``.
        scores: float, broadcasts with it; the student's are ``[B, 1, n]``.
        order: int64 ``[B, m]``.
        mask: bool ``[B, n]``.
        temperature: τ of the logits.
        student_temperature: τ of the scores.
    """
    divergences = choice_divergence(
        logits,
        scores,
        choice_sets(order, mask),
        teacher_temperature=temperature,
        student_temperature=student_temperature,
    )
    return over_slots(divergences, mask)


def first_choice_distillation(
    logits: Tensor, scores: Tensor, mask: Tensor, temperature: float, student_temperature: float
) -> Tensor:
    """``[B]``: the teacher's choice at the first slot against ``softmax(s)``: no prefix can have shaped it."""
    sets = mask[:, None]
    return choice_divergence(
        logits[:, :1],
        scores[:, None],
        sets,
        teacher_temperature=temperature,
        student_temperature=student_temperature,
    )[:, 0]


def rank_distillation(order: Tensor, scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """``[B]``: cross-entropy of ``softmax(s)`` to ``softmax(-slot / τ)`` over the candidates of the teacher's list."""
    slots = torch.arange(order.shape[1], device=order.device, dtype=scores.dtype)
    places = torch.full_like(scores, torch.inf).scatter(1, order, slots.expand(order.shape))
    placed = mask & torch.isfinite(places)
    target = masked_softmax(-places / temperature, placed)
    return -(target * masked_log_softmax(scores, mask)).sum(1)


def list_mle_distillation(order: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """``[B]``: the student's surprise at the teacher's list, slot by slot: sequence-level distillation."""
    return over_slots(-order_log_likelihood(scores, order, mask), mask)


def pairwise_distillation(order: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """``[B]``: mean of ``softplus(s_later - s_earlier)`` over the pairs of the teacher's list."""
    placed = scores.gather(1, order)
    valid = valid_slots(mask, order.shape[1])
    pairs = (valid[:, :, None] & valid[:, None]).triu(1)
    surprise = softplus(placed[:, None] - placed[:, :, None]) * pairs
    return surprise.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def over_slots(values: Tensor, mask: Tensor) -> Tensor:
    """``[B]``: mean of ``[B, m]`` over each list's slots, weighed by ``1 / log2(1 + j)``."""
    weights = slot_discounts(values.shape[1], values.device) * valid_slots(mask, values.shape[1])
    return (weights * values).sum(1) / weights.sum(1).clamp(min=1e-12)
