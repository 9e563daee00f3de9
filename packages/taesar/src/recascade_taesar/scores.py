"""The weights and scores of adaptive contrastive decoding. Pure functions on logits ``[P, C]`` of P places.

The forms are the released code's; the paper's equations were not available to us. A *place* is an event of another
domain; the three logits are those that the models give before it, in order of the same C items.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Divergence = Literal["reversed", "standard"]

# Below this the logarithm is of a number that float32 keeps no digits of; it is multiplied by 0 there anyway.
_TINY = 1e-37


def log_normaliser(logits: Tensor, probabilities: Tensor) -> Tensor:
    """``[P, 1]``: log of the sum of exponentials, from the softmax that is known already, in two reductions."""
    return logits.amax(1, keepdim=True) - probabilities.amax(1, keepdim=True).log_()


def confidence(logits: Tensor) -> Tensor:
    """α, ``[P, C]``: how sure the target expert is of each item, 1 at the item of the greatest entropy term.

    ``H[v] = -p[v] ln p[v];  α[v] = (1 - H[v]) / (1 - max H + 1e-10)`` (release; it has ``ln(p + 1e-10)``, which moves α
    by less than 1e-8). α lies in [1, 1 / (1 - 1/e)].
    """
    probabilities = logits.softmax(1)
    terms = (logits - log_normaliser(logits, probabilities)).mul_(probabilities)
    least = terms.amin(1, keepdim=True)
    return terms.add_(1.0).div_(least.add_(1.0 + 1e-10))


def divergence(mixed: Tensor, source: Tensor, kind: Divergence = "reversed") -> Tensor:
    """β, ``[P, C]``: how far the source expert is from the mixed model at each item, 1 at the farthest.

    With ``m = (p + q) / 2`` the terms are ``m (ln m - (ln p + ln q) / 2)`` (``reversed``, the release: the arguments of
    its divergence are swapped) or ``(p ln(p / m) + q ln(q / m)) / 2`` (``standard``, Jensen-Shannon), divided by their
    maximum + 1e-10. β lies in [0, 1]; nothing underflows to NaN, since the logarithms come from the logits.
    """
    p, q = mixed.softmax(1), source.softmax(1)
    log_p = mixed - log_normaliser(mixed, p)
    log_q = source - log_normaliser(source, q)
    mean = (p + q).mul_(0.5)
    log_mean = mean.clamp_min(_TINY).log_()
    if kind == "reversed":
        terms = log_mean.sub_(log_p.add_(log_q), alpha=0.5).mul_(mean)
    else:
        terms = log_p.sub_(log_mean).mul_(p).add_(log_q.sub_(log_mean).mul_(q)).mul_(0.5)
    terms.clamp_min_(0.0)
    return terms.div_(terms.amax(1, keepdim=True).add_(1e-10))


def implausible(target: Tensor, share: float) -> Tensor:
    """bool ``[P, C]``: items below ``share`` of the target expert's highest probability (Li et al., ACL 2023)."""
    return target < target.amax(1, keepdim=True) + torch.tensor(share).log()
