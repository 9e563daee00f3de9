"""RSPO: one loss over a ranked list, a bound on its lost NDCG (GR4AD, §3.4, equations 16 to 18, appendix A.1).

Lists are ``[B, n]``; ``mask`` says which places are filled. Candidates with equal value form no pair. The weights M and
the gate C carry no gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recascade.nn.preference_losses import masked_logsumexp

Positions = Literal["model", "reward"]
Weights = Literal["lambda", "uniform"]


def rspo_loss(
    log_probs: Tensor,
    reference: Tensor,
    recorded: Tensor,
    grades: Tensor,
    mask: Tensor,
    *,
    beta: float = 1.0,
    threshold: float = 2.0,
    positions: Positions = "model",
    weights: Weights = "lambda",
) -> Tensor:
    """The loss ℓ_i of each candidate as an anchor, 0 where it has nothing to beat.

    ``ℓ_i = log2(1 + Σ_{j: v_j < v_i} M_ij exp(β (g_j - g_i)))`` with ``g_k = log p_θ(y_k) - C_i log p_ref(y_k)``: the
    same as equation 16, in the form that neither overflows nor underflows. C is an exponent of p_ref (derived: as a
    factor, C = 0 would divide by zero).

    Args:
        log_probs: float ``[B, n]``, log p_θ of the candidates.
        reference: float ``[B, n]``, log p_ref as recorded when the list was made; anything where not recorded.
        recorded: bool ``[B]``, whether the list has a recorded reference.
        grades: float ``[B, n]``, v, bounded; raw eCPM would overflow ``2^v``.
        mask: bool ``[B, n]``.
        beta: strength β (the paper gives none).
        threshold: δ of the gate, in nats (the paper gives none).
        positions: ranks by ``model`` (log p_θ: what the proof needs; our reading) or by ``reward``.
        weights: ``lambda`` (equation 17), or ``uniform``, M = 1: S-DPO.

    Returns:
        ``[B, n]``.
    """
    worse = pairs(grades, mask)
    gate = reference_gate(log_probs, reference, recorded, worse, mask, threshold)[..., None]
    known = torch.where(recorded[:, None] & mask, reference, 0.0).detach()
    # [B, i, j]: how far the policy, and the reference, prefer j to i.
    policy = (log_probs[:, None, :] - log_probs[:, :, None]).masked_fill(~worse, 0.0)
    margins = beta * (policy - gate * (known[:, None, :] - known[:, :, None]))
    if weights == "lambda":
        ranks = ranks_of(log_probs if positions == "model" else grades, mask)
        # The least positive number for weights that underflowed keeps their pairs, and keeps the logarithm finite.
        factors = pair_weights(grades, ranks, mask)
        margins = margins + factors.clamp(min=torch.finfo(factors.dtype).tiny).log()
    return softplus(masked_logsumexp(margins, worse)) / math.log(2)


def mean_over_anchors(losses: Tensor, grades: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``[B, n]`` losses over the candidates that have something to beat; 0 where there is none."""
    anchors = pairs(grades, mask).any(-1)
    return (losses * anchors).sum() / anchors.sum().clamp(min=1)


def pairs(grades: Tensor, mask: Tensor) -> Tensor:
    """bool ``[B, n, n]``: at ``[b, i, j]`` whether candidate j is worth less than candidate i."""
    return (grades[:, None, :] < grades[:, :, None]) & mask[:, None, :] & mask[:, :, None]


def ranks_of(scores: Tensor, mask: Tensor) -> Tensor:
    """int64 ``[B, n]``: place of each candidate by falling score, from 0; equal scores in their order, absent
    candidates last."""
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)


@torch.no_grad()
def pair_weights(grades: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
    """M (equation 17): ``|1/D_|i-j| - 1/D_{|i-j|+1}| · |G_i - G_j|`` with ``D_k = log2(1 + k)``, ``G = (2^v - 1) / Z``
    and Z the DCG of the best order: NDCG-Loss2 of LambdaLoss (Wang et al., CIKM 2018).

    Args:
        grades: float ``[B, n]``.
        ranks: int64 ``[B, n]``, from 0.
        mask: bool ``[B, n]``.

    Returns:
        ``[B, n, n]``; 0 on the diagonal.
    """
    gains = torch.where(mask, torch.exp2(grades) - 1, 0.0)
    places = torch.arange(grades.shape[1], device=grades.device, dtype=grades.dtype)
    ideal = (gains.sort(dim=1, descending=True).values / torch.log2(places + 2)).sum(1, keepdim=True)
    gains = gains / torch.where(ideal > 0, ideal, 1.0)
    # The diagonal, whose distance is 0, has no difference of gains.
    distances = (ranks[:, :, None] - ranks[:, None, :]).abs().clamp(min=1).to(grades.dtype)
    discounts = 1 / torch.log2(1 + distances) - 1 / torch.log2(2 + distances)
    return discounts * (gains[:, :, None] - gains[:, None, :]).abs()


@torch.no_grad()
def reference_gate(
    log_probs: Tensor, reference: Tensor, recorded: Tensor, worse: Tensor, mask: Tensor, threshold: float
) -> Tensor:
    """C (equation 18): 1.0 where the mean of ``|log p_θ - log p_ref|`` over the anchor and what it must beat is below
    δ, else 0.0.

    Args:
        log_probs: float ``[B, n]``.
        reference: float ``[B, n]``.
        recorded: bool ``[B]``; without a recorded reference the gate is 0.
        worse: bool ``[B, n, n]``, see ``pairs``.
        mask: bool ``[B, n]``.
        threshold: δ.

    Returns:
        ``[B, n]``, of the dtype of ``log_probs``.
    """
    usable = recorded[:, None] & mask
    moved = torch.where(usable, (log_probs - reference).abs(), 0.0)
    around = (worse.to(moved.dtype) @ moved[..., None])[..., 0] + moved
    return (usable & (around / (worse.sum(-1) + 1) < threshold)).to(log_probs.dtype)
