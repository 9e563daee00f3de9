"""The weights and scores of adaptive contrastive decoding. Pure functions on logits ``[P, C]`` of P places.

The forms are the released code's; the paper's equations were not available to us. A *place* is an event of another
domain; the three logits are those that the models give before it, in order of the same C items.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.special import xlog1py

Divergence = Literal["reversed", "standard"]


def confidence(logits: Tensor) -> Tensor:
    """α, ``[P, C]``: how sure the target expert is of each item, 1 at the item of the greatest entropy term.

    ``H[v] = -p[v] ln p[v];  α[v] = (1 - H[v]) / (1 - max H + 1e-10)`` (release; it has ``ln(p + 1e-10)``, which moves α
    by less than 1e-8). α lies in [1, 1 / (1 - 1/e)].
    """
    probabilities = logits.softmax(1)
    # The logarithm of the sum of exponentials, from the softmax, in two reductions.
    normaliser = logits.amax(1, keepdim=True) - probabilities.amax(1, keepdim=True).log_()
    terms = (logits - normaliser).mul_(probabilities)
    least = terms.amin(1, keepdim=True)
    return terms.add_(1.0).div_(least.add_(1.0 + 1e-10))


def divergence(mixed: Tensor, source: Tensor, kind: Divergence = "reversed") -> Tensor:
    """β, ``[P, C]``: how far the source expert is from the mixed model at each item, 1 at the farthest.

    With ``m = (p + q) / 2`` the terms are ``m (ln m - (ln p + ln q) / 2)`` (``reversed``, the release: the arguments of
    its divergence are swapped) or ``(p ln(p / m) + q ln(q / m)) / 2`` (``standard``, Jensen-Shannon), divided by their
    maximum + 1e-10. β lies in [0, 1].

    Both are computed from ``δ = (ln p - ln q) / 2``: the one is ``m ln cosh δ``, the other, with ``τ = tanh δ``,
    ``m ((1 + τ) ln(1 + τ) + (1 - τ) ln(1 - τ)) / 2``. Where the models agree, the direct forms are differences of equal
    numbers, and the maximum that they are divided by is no larger than their rounding; where they disagree, nothing
    underflows to NaN.
    """
    p, q = mixed.softmax(1), source.softmax(1)
    shift = p.amax(1, keepdim=True).log_() - mixed.amax(1, keepdim=True)
    shift += source.amax(1, keepdim=True) - q.amax(1, keepdim=True).log_()
    # ln p - ln q, which is 2 δ; and p + q, which is 2 m: the terms below are twice those above.
    difference, total = (mixed - source).add_(shift), p.add_(q)
    if kind == "reversed":
        size = difference.abs_()
        terms = torch.neg(size, out=q).expm1_().mul_(0.5).log1p_().add_(size, alpha=0.5).mul_(total)
    else:
        share = difference.mul_(0.5).tanh_()
        terms = xlog1py(1.0 + share, share).add_(xlog1py(1.0 - share, -share)).mul_(total).mul_(0.5)
    terms.clamp_min_(0.0)
    return terms.div_(terms.amax(1, keepdim=True).add_(2e-10))


def implausible(target: Tensor, share: float) -> Tensor:
    """bool ``[P, C]``: items below ``share`` of the target expert's highest probability (Li et al., ACL 2023)."""
    return target < target.amax(1, keepdim=True) + torch.tensor(share).log()
