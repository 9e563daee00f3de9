"""Losses over a catalogue of items: full softmax in chunks, sampled softmax with logQ correction, binary cross-entropy.

All take packed states, only those that have a target. Scores are inner products divided by ``temperature``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

# Rows of one chunk: enough for matrix products to run at full speed, few enough to keep the scores in a CPU's cache.
# Our choice, measured.
_CHUNK_ROWS_LEAST = 64
_CHUNK_ROWS_MOST_CPU = 256
_CHUNK_ELEMENTS_CPU = 3 << 20
_CHUNK_ELEMENTS_GPU = 64 << 20
# Matrix products into rows of odd strides are up to twice slower than into rows that start at multiples of 64 bytes.
_ROW_ALIGNMENT = 16
# A smaller probability may have lost digits to float32 underflow; its logarithm is recomputed from the scores.
_LEAST_PROBABILITY = 1e-30
# States of one chunk against shared negatives.
_SHARED_ROWS = 1024
# The score of a collision; finite, so that a position whose negatives all collide has a loss of 0 and no NaN.
_HIDDEN = -1e30


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
    if owners is None:
        owners = torch.arange(len(states), device=states.device)
    arguments = (states, item_vectors, targets, owners, bias, 1.0 / temperature, chunk, differentiable)
    return cast(Tensor, _FullSoftmax.apply(*arguments))  # type: ignore[no-untyped-call]


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        item_vectors: Tensor,
        targets: Tensor,
        owners: Tensor,
        bias: Tensor | None,
        scale: float,
        chunk: int | None,
        differentiable: bool,
    ) -> Tensor:
        device = states.device
        autocast = torch.is_autocast_enabled(device.type)
        precision = torch.get_autocast_dtype(device.type) if autocast else states.dtype
        queries, catalogue = (states * scale).to(precision), item_vectors.to(precision)
        items = len(catalogue)
        width = -(-items // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
        rows = max(1, min(chunk or _chunk_rows(width, device), len(states)))
        # The pads beyond the last item stay -inf in one buffer and become probability 0 in the other.
        scores = torch.full((rows, width), -torch.inf, dtype=precision, device=device)
        probabilities = torch.empty(rows, width, dtype=states.dtype, device=device)

        edges = torch.arange(0, len(states) + rows, rows, device=device)
        target_edges: list[int] = torch.searchsorted(owners, edges).tolist()
        target_places = (owners % rows) * width + targets
        target_probabilities = torch.empty(len(targets), dtype=states.dtype, device=device)
        if differentiable:
            # The gradient of the mean loss: softmax times the share of the row's targets, minus the targets themselves.
            counts = torch.bincount(owners, minlength=len(states)).to(states.dtype)
            weights = (counts * (scale / len(targets)))[:, None]
            weighted_states = states * weights
            products = torch.empty_like(queries)
            gradient_items = torch.zeros_like(item_vectors)
            gradient_bias = None if bias is None else torch.zeros_like(bias)

        for index, start in enumerate(range(0, len(states), rows)):
            part = slice(start, start + rows)
            owned = slice(target_edges[index], target_edges[index + 1])
            logits = scores[: min(rows, len(states) - start)]
            torch.mm(queries[part], catalogue.t(), out=logits[:, :items])
            if bias is not None:
                logits[:, :items] += bias
            window = probabilities[: len(logits)]
            torch.softmax(logits, 1, dtype=window.dtype, out=window)
            torch.index_select(window.view(-1), 0, target_places[owned], out=target_probabilities[owned])
            if not differentiable:
                continue
            expected = window[:, :items].to(precision)
            torch.mm(expected, catalogue, out=products[part])
            if precision == item_vectors.dtype:
                gradient_items.addmm_(expected.t(), weighted_states[part])
            else:
                gradient_items += expected.t() @ weighted_states[part].to(precision)
            if gradient_bias is not None:
                gradient_bias.addmv_(window[:, :items].t(), weights[part, 0], alpha=1.0 / scale)

        losses = -target_probabilities.log()
        lost = (target_probabilities < _LEAST_PROBABILITY).nonzero()[:, 0]
        if len(lost):
            losses[lost] = _exact_losses(states[owners[lost]] * scale, item_vectors, targets[lost], bias)
        if differentiable:
            share = scale / len(targets)
            gradient_states = weights * products
            gradient_states.index_add_(0, owners, item_vectors.index_select(0, targets), alpha=-share)
            gradient_items.index_add_(0, targets, states.index_select(0, owners), alpha=-share)
            if gradient_bias is not None:
                gradient_bias.index_add_(0, targets, gradient_bias.new_full(targets.shape, -1.0 / len(targets)))
            ctx.save_for_backward(gradient_states, gradient_items, gradient_bias)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        outer = gradients[0]
        inner: tuple[Tensor | None, ...] = ctx.saved_tensors
        # Reading a scalar is free on a CPU and spares a pass over the catalogue; a GPU would have to wait for it.
        if outer.device.type != "cpu" or outer.item() != 1.0:
            inner = tuple(None if gradient is None else gradient * outer for gradient in inner)
        gradient_states, gradient_items, gradient_bias = inner
        return gradient_states, gradient_items, None, None, gradient_bias, None, None, None


def _chunk_rows(width: int, device: torch.device) -> int:
    if device.type != "cpu":
        return max(_CHUNK_ROWS_LEAST, _CHUNK_ELEMENTS_GPU // width)
    return min(max(_CHUNK_ROWS_LEAST, _CHUNK_ELEMENTS_CPU // width), _CHUNK_ROWS_MOST_CPU)


def _exact_losses(queries: Tensor, item_vectors: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
    scores = queries @ item_vectors.t()
    if bias is not None:
        scores += bias
    return scores.logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]


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
        arguments = (queries, negatives, log_q_negative, collisions)
        rest = cast(Tensor, _SharedLogSumExp.apply(*arguments))  # type: ignore[no-untyped-call]
    else:
        negative = _block_scores(queries, negatives, log_q_negative)
        if collisions is not None:
            negative = negative.masked_fill(collisions, _HIDDEN)
        rest = negative.logsumexp(1)
    # -log(exp(positive) / (exp(positive) + exp(rest)))
    return softplus(rest - positive).mean()


def _block_scores(queries: Tensor, negatives: Tensor, log_q: Tensor | None) -> Tensor:
    """Inner products ``[P, n]`` of queries ``[P, d]`` with the negatives ``[G, n, d]`` of their block."""
    blocks, size = len(negatives), -(-len(queries) // len(negatives))
    missing = blocks * size - len(queries)
    blocked = pad(queries, (0, 0, 0, missing)).view(blocks, size, -1)
    scores = torch.bmm(blocked, negatives.transpose(1, 2))
    if log_q is not None:
        scores = scores - log_q[:, None]
    return scores.flatten(0, 1)[: len(queries)]


class _SharedLogSumExp(torch.autograd.Function):
    """Log of the sum of the exponentials of each state's scores with one set of vectors, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, log_q: Tensor | None, collisions: Tensor | None) -> Tensor:
        shares = states.new_empty(len(states), len(vectors))
        expected = torch.empty_like(states)
        sums = states.new_empty(len(states))
        for start in range(0, len(states), _SHARED_ROWS):
            part = slice(start, start + _SHARED_ROWS)
            scores = shares[part]
            torch.mm(states[part], vectors.t(), out=scores)
            if log_q is not None:
                scores -= log_q
            if collisions is not None:
                row, column = collisions[part].nonzero().unbind(1)
                scores[row, column] = _HIDDEN
            greatest = scores.amax(1)
            torch.softmax(scores, 1, out=scores)
            sums[part] = greatest - scores.amax(1).log_()
            torch.mm(scores, vectors, out=expected[part])
        ctx.save_for_backward(states, shares, expected)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, shares, expected = ctx.saved_tensors
        outer = gradients[0][:, None]
        return outer * expected, shares.t() @ (outer * states), None, None


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
    negative = queries @ negatives.t() if negatives.dim() == 2 else _block_scores(queries, negatives, None)
    penalties = softplus(_at_least_single(negative))
    if collisions is not None:
        penalties = penalties.masked_fill(collisions, 0.0)
    return (softplus(-positive) + penalties.sum(1)).mean()


def _at_least_single(tensor: Tensor) -> Tensor:
    """Half-precision outputs of a layer under autocast are too coarse for sums over a catalogue."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
