"""What a list model minimises: scores or slot distributions against the labels of whole lists."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def listwise_softmax(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each list's labels, normalised to a distribution, against the softmax of its scores (ListNet's
    top-one loss, Cao et al., ICML 2007; PRM's equation for its clicks).

    The mean over the lists that have a positive label; 0 where none has.

    Args:
        scores: float ``[B, n]``; padding may hold anything finite.
        labels: float ``[B, n]``, from 0 on.
        mask: bool ``[B, n]``, True for a candidate.
    """
    totals = (labels * mask).sum(1)
    log_shares = masked_log_softmax(scores, mask)
    losses = -(labels * mask * log_shares).sum(1) / totals.clamp(min=1e-9)
    return mean_where(losses, totals > 0)


def attention_rank(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """DLCM's loss (Ai et al., SIGIR 2018, equations 7 to 9), also SetRank's: labels and scores as attention.

    Labels above 0 share attention in proportion to exp(label), others get none; scores share it by softmax. The loss is
    the binary cross-entropy of both shares, summed over the list; the mean over lists that have a positive label.

    Args:
        scores: float ``[B, n]``.
        labels: float ``[B, n]``.
        mask: bool ``[B, n]``.
    """
    weights = torch.where((labels > 0) & mask, labels.exp(), 0.0)
    totals = weights.sum(1, keepdim=True)
    wanted = weights / totals.clamp(min=1e-9)
    log_shares = masked_log_softmax(scores, mask)
    # log(1 - share) loses all digits where one candidate has nearly everything; the bound keeps its gradient finite.
    log_others = torch.log1p(-log_shares.exp().clamp(max=1 - 1e-6))
    losses = -((wanted * log_shares + (1 - wanted) * log_others) * mask).sum(1)
    return mean_where(losses, totals[:, 0] > 0)


def click_log_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy over all candidates, a label above 0 counting as 1."""
    losses = binary_cross_entropy_with_logits(scores, (labels > 0).to(scores.dtype), reduction="none")
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def slot_cross_entropy(log_shares: Tensor, labels: Tensor, mask: Tensor, prefix: Tensor) -> Tensor:
    """Per-slot cross-entropy of a generator against the labels that its prefix has left (Seq2Slate's supervised loss,
    Bello et al. 2018, with weights 1 / log2(1 + slot)).

    A slot before which every positive candidate was placed, and one behind the last candidate, weigh nothing. The mean
    over lists that have a positive label.

    Args:
        log_shares: float ``[B, m, n]``, log-probability of candidate i in slot j; -inf where it cannot stand.
        labels: float ``[B, n]``.
        mask: bool ``[B, n]``.
        prefix: int64 ``[B, m]``, the order that the generator was fed; -1 behind the last candidate.
    """
    remaining = remaining_labels(labels * mask, prefix)
    totals = remaining.sum(2)
    # A product 0 · -inf would be no number: what cannot be placed has no label left.
    losses = -(remaining * log_shares.masked_fill(remaining == 0, 0.0)).sum(2) / totals.clamp(min=1e-9)
    slots = torch.arange(log_shares.shape[1], device=labels.device, dtype=losses.dtype)
    weights = (totals > 0) / torch.log2(2 + slots)
    per_list = (weights * losses).sum(1) / weights.sum(1).clamp(min=1e-9)
    return mean_where(per_list, weights.sum(1) > 0)


def slot_unlikelihood(log_shares: Tensor, labels: Tensor, mask: Tensor, prefix: Tensor) -> Tensor:
    """What a generator gives to unlabelled candidates while labelled ones are left: ``-log(1 - share)``, summed over
    them, in the slots that ``slot_cross_entropy`` weighs (after NAR4Rec's unlikelihood of unwanted lists, Ren et al.,
    KDD 2024, whose lists are judged as a whole).

    Args:
        log_shares: float ``[B, m, n]``.
        labels: float ``[B, n]``.
        mask: bool ``[B, n]``.
        prefix: int64 ``[B, m]``.
    """
    awaited = remaining_labels(labels * mask, prefix).sum(2) > 0
    unwanted = (mask & (labels <= 0))[:, None]
    shares = log_shares.exp().masked_fill(~unwanted, 0.0).clamp(max=1 - 1e-6)
    losses = -torch.log1p(-shares).sum(2)
    slots = torch.arange(log_shares.shape[1], device=labels.device, dtype=losses.dtype)
    weights = awaited / torch.log2(2 + slots)
    per_list = (weights * losses).sum(1) / weights.sum(1).clamp(min=1e-9)
    return mean_where(per_list, weights.sum(1) > 0)


def remaining_labels(labels: Tensor, prefix: Tensor) -> Tensor:
    """float ``[B, m, n]``: the labels ``[B, n]`` of candidates that the slots before j have not taken, else 0.

    Args:
        labels: float ``[B, n]``.
        prefix: int64 ``[B, m]``, -1 for an empty slot.
    """
    taken_here = torch.zeros(*prefix.shape, labels.shape[1], device=labels.device)
    taken_here.scatter_(2, prefix.clamp(min=0)[..., None], (prefix >= 0).float()[..., None])
    taken_before = taken_here.cumsum(1) - taken_here
    return labels[:, None] * (taken_before == 0)


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the last axis among what the mask leaves; 0 elsewhere, so that sums over it stay finite."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).log_softmax(-1).masked_fill(~mask, 0.0)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0, with a gradient of 0, where none is chosen."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)
