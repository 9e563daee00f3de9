"""Losses over a catalogue of items: full softmax in chunks, sampled softmax with logQ correction, binary cross-entropy.

All take packed states, only those that have a target. Scores are inner products divided by ``temperature``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from recascade.nn.softmax_operators import HIDDEN, shared_log_sum_exp, softmax_with_gradients


def full_softmax(
    states: Tensor,
    item_vectors: Tensor,
    targets: Tensor,
    *,
    owners: Tensor | None = None,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Mean cross-entropy of each target against all items, without ever holding all ``P * I`` scores.

    Gradients are computed in the forward pass, while the probabilities of a chunk are in the cache: three matrix
    products per chunk, nothing recomputed, memory for one chunk.

    Args:
        states: float ``[P, d]``.
        item_vectors: float ``[I, d]``, the whole catalogue.
        targets: int64 ``[N]``, item indices; N = P unless ``owners`` is given.
        owners: int64 ``[N]``, ascending: the state that each target belongs to, for states with several targets (a
            basket). Scores are computed once per state.
        bias: float ``[I]`` added to the scores, or None.
        temperature: divides the inner products.
        chunk: states per chunk; None chooses by the size of the catalogue.

    Returns:
        Scalar, the mean over the N targets of ``logsumexp(scores) - scores[target]``.
    """
    differentiable = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (states, item_vectors, bias)
    )
    states, item_vectors = _at_least_single(states), _at_least_single(item_vectors)
    device = states.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    arguments = (states, item_vectors, targets, owners, bias, 1.0 / temperature, chunk, precision, differentiable)
    return cast(Tensor, softmax_with_gradients(*arguments)[0])


def sampled_softmax(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    log_q_positive: Tensor | None = None,
    log_q_negative: Tensor | None = None,
    collisions: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Mean cross-entropy of the positive item among itself and sampled negatives.

    The logQ correction (Bengio and Senécal 2008; Yi et al., RecSys 2019, equation 3) subtracts the log of the
    probability with which an item is sampled from its score, so that the loss estimates the full softmax.

    Args:
        states: float ``[P, d]``.
        positives: float ``[P, d]``, vectors of the target items.
        negatives: float ``[n, d]``, shared by all positions (one matrix product), or ``[G, n, d]``, one set for each of
            G blocks of ``ceil(P / G)`` neighbouring positions; G = P gives each position a set of its own.
        log_q_positive: float ``[P]``, log sampling probability of each target, or None for no correction of targets.
        log_q_negative: float ``[n]`` or ``[G, n]``, of each negative, or None.
        collisions: bool ``[P, n]``, True where a negative is the position's own target and must not count; or None.
        temperature: divides the inner products (not the correction).

    Returns:
        Scalar, the mean over positions.
    """
    states, positives, negatives = (_at_least_single(tensor) for tensor in (states, positives, negatives))
    queries = states if temperature == 1.0 else states / temperature
    positive = torch.linalg.vecdot(queries, positives)
    if log_q_positive is not None:
        positive = positive - log_q_positive
    if negatives.dim() == 2:
        rest = shared_log_sum_exp(queries, negatives, log_q_negative, collisions)[0]
    else:
        negative = _block_scores(queries, negatives, log_q_negative)
        if collisions is not None:
            negative = negative.masked_fill(collisions, HIDDEN)
        rest = negative.logsumexp(1)
    # -log(exp(positive) / (exp(positive) + exp(rest)))
    return softplus(rest - positive).mean()


def _block_scores(queries: Tensor, negatives: Tensor, log_q: Tensor | None) -> Tensor:
    """Inner products ``[P, n]`` of queries ``[P, d]`` with the negatives ``[G, n, d]`` of their block, at least
    float32."""
    blocks, size = len(negatives), -(-len(queries) // len(negatives))
    missing = blocks * size - len(queries)
    blocked = pad(queries, (0, 0, 0, missing)).view(blocks, size, -1)
    scores = _at_least_single(torch.bmm(blocked, negatives.transpose(1, 2)))
    if log_q is not None:
        scores = scores - log_q[:, None]
    return scores.flatten(0, 1)[: len(queries)]


def binary_cross_entropy(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    collisions: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """SASRec's own loss, ``-log σ(positive) - Σ log(1 - σ(negative))`` (Kang and McAuley 2018, equation 6).

    Args:
        states: float ``[P, d]``.
        positives: float ``[P, d]``, vectors of the target items.
        negatives: float ``[n, d]`` or ``[G, n, d]``, as for ``sampled_softmax``; the paper samples n = 1 each.
        collisions: bool ``[P, n]``, True where a negative is the position's own target and must not count; or None.
        temperature: divides the inner products.

    Returns:
        Scalar, the mean over positions of the sum over the positive and its negatives.
    """
    states, positives, negatives = (_at_least_single(tensor) for tensor in (states, positives, negatives))
    queries = states if temperature == 1.0 else states / temperature
    positive = torch.linalg.vecdot(queries, positives)
    shared = negatives.dim() == 2
    negative = _at_least_single(queries @ negatives.t()) if shared else _block_scores(queries, negatives, None)
    penalties = softplus(negative)
    if collisions is not None:
        penalties = penalties.masked_fill(collisions, 0.0)
    return (softplus(-positive) + penalties.sum(1)).mean()


def _at_least_single(tensor: Tensor) -> Tensor:
    """Half-precision outputs of a layer under autocast are too coarse for sums over a catalogue."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
