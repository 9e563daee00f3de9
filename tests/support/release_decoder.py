"""The decoder of the released code, place by place in double precision: what the fast one is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


def softmax(logits: Logits) -> Logits:
    exponentials: Logits = np.exp(logits - logits.max())
    exponentials /= exponentials.sum()
    return exponentials


def log_softmax(logits: Logits) -> Logits:
    shifted: Logits = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def alpha(target: Logits) -> Logits:
    p = softmax(target)
    entropy = -p * np.log(p + 1e-10)
    weights: Logits = (1 - entropy) / (1 - entropy.max() + 1e-10)
    return weights


def beta(mixed: Logits, source: Logits) -> Logits:
    p, q = softmax(mixed), softmax(source)
    m = (p + q) / 2
    terms = m * (np.log(m) - (log_softmax(mixed) + log_softmax(source)) / 2)
    weights: Logits = terms / (terms.max() + 1e-10)
    return weights


def released_place(
    target: Logits, mixed: Logits, source: Logits, low: int, high: int, *, shift: int, everywhere: bool
) -> tuple[int, float]:
    """The column that stands at a place after decoding, of all columns, and how close the decision was.

    Args:
        target: ``[C]``, logits of the target expert; so ``mixed`` and ``source``.
        mixed: of the mixed model.
        source: of the source expert.
        low: first column of the target's block.
        high: the column behind it.
        shift: 1 for the release's error.
        everywhere: the last argmax runs over all columns (release) or over the block.
    """
    scores = (1 + alpha(target)) * target - beta(mixed, source) * source
    best = int(scores.argmax())
    inside = low <= best < high
    block = scores[low:high]
    outside = np.concatenate([scores[:low], scores[high:]])
    gap = abs(block.max() - outside.max())
    if inside:
        own, common, other = target[low:high], mixed[low:high], source[low:high]
        scores[low:high] = (1 + alpha(own)) * own - beta(common, other) * other
        considered = scores if everywhere else scores[low:high]
        best = int(considered.argmax()) + (0 if everywhere else low)
        if len(considered) > 1:
            second, first = np.sort(considered)[-2:]
            gap = min(gap, first - second)
    return best + shift, float(gap)
