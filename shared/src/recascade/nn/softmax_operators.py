"""Softmax over many items in chunks, as operators that a compiler takes whole.

What ``torch.compile`` would trace, a loop whose length depends on the batch, would be compiled anew for every length.
On a CPU some steps look at sizes in the data, which costs nothing there; an accelerator never makes the host wait.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
HIDDEN = -1e30


@torch.library.custom_op("recascade::softmax_with_gradients", mutates_args=())
def softmax_with_gradients(
    states: Tensor,
    item_vectors: Tensor,
    targets: Tensor,
    owners: Tensor | None,
    bias: Tensor | None,
    scale: float,
    chunk: int | None,
    precision: torch.dtype,
    differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean cross-entropy against all items, and what its gradient needs (``recascade.nn.losses.full_softmax``).

    Args:
        states: float32 or float64 ``[P, d]``.
        item_vectors: ``[I, d]`` of the same dtype.
        targets: int64 ``[N]``.
        owners: int64 ``[N]``, ascending, or None for N = P.
        bias: ``[I]`` or None.
        scale: multiplies the inner products.
        chunk: states per chunk, or None.
        precision: of the matrix products.
        differentiable: whether the gradients are wanted.

    Returns:
        The loss, and its gradients for states, item vectors and bias; empty where not wanted.
    """
    device = states.device
    queries, catalogue = (states * scale).to(precision), item_vectors.to(precision)
    items = len(catalogue)
    width = -(-items // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
    rows = max(1, min(chunk or _chunk_rows(width, device), len(states)))
    # The pads beyond the last item stay -inf in one buffer and become probability 0 in the other.
    scores = torch.full((rows, width), -torch.inf, dtype=precision, device=device)
    probabilities = torch.empty(rows, width, dtype=states.dtype, device=device)
    look = _looking_is_free(device)
    edges = torch.arange(0, len(states) + rows, rows, device=device)
    if owners is None:
        owners = torch.arange(len(states), device=device)
    if look:
        target_edges: list[int] = torch.searchsorted(owners, edges).tolist()
        target_places = (owners % rows) * width + targets
        target_probabilities = torch.empty(len(targets), dtype=states.dtype, device=device)
    else:
        normalisers = torch.empty(len(states), dtype=states.dtype, device=device)
    gradient_states, gradient_items, gradient_bias = (states.new_empty(0) for _ in range(3))
    if differentiable:
        # The gradient of the mean loss: softmax times the share of the row's targets, minus the targets themselves.
        ones = torch.ones_like(targets, dtype=states.dtype)
        counts = states.new_zeros(len(states)).index_add_(0, owners, ones)
        weights = (counts * (scale / len(targets)))[:, None]
        weighted_states = states * weights
        products = torch.empty_like(queries)
        gradient_items = torch.zeros_like(item_vectors)
        if bias is not None:
            gradient_bias = torch.zeros_like(bias)

    for index, start in enumerate(range(0, len(states), rows)):
        part = slice(start, start + rows)
        logits = scores[: min(rows, len(states) - start)]
        torch.mm(queries[part], catalogue.t(), out=logits[:, :items])
        if bias is not None:
            logits[:, :items] += bias
        window = probabilities[: len(logits)]
        torch.softmax(logits, 1, dtype=window.dtype, out=window)
        if look:
            owned = slice(target_edges[index], target_edges[index + 1])
            torch.index_select(window.view(-1), 0, target_places[owned], out=target_probabilities[owned])
        else:
            # The greatest probability is that of the greatest score.
            normalisers[part] = logits.amax(1) - window.amax(1).log()
        if not differentiable:
            continue
        expected = window[:, :items].to(precision)
        torch.mm(expected, catalogue, out=products[part])
        if precision == torch.bfloat16:
            gradient_items += expected.t() @ weighted_states[part].to(precision)
        else:
            # A share of a probability of a mean is below what float16 can tell from 0, and the factor with which a
            # scaled loss would lift it comes only in the backward pass.
            gradient_items.addmm_(window[:, :items].t(), weighted_states[part])
        if bias is not None:
            gradient_bias.addmv_(window[:, :items].t(), weights[part, 0], alpha=1.0 / scale)

    if look:
        losses = -target_probabilities.log()
        lost = (target_probabilities < _LEAST_PROBABILITY).nonzero()[:, 0]
        if len(lost):
            losses[lost] = _exact_losses(states[owners[lost]] * scale, item_vectors, targets[lost], bias)
    else:
        own_scores = torch.linalg.vecdot(queries[owners].to(states.dtype), catalogue[targets].to(states.dtype))
        losses = normalisers[owners] - (own_scores if bias is None else own_scores + bias[targets])
    if differentiable:
        share = scale / len(targets)
        gradient_states = weights * products
        gradient_states.index_add_(0, owners, item_vectors.index_select(0, targets), alpha=-share)
        gradient_items.index_add_(0, targets, states.index_select(0, owners), alpha=-share)
        if bias is not None:
            gradient_bias.index_add_(0, targets, gradient_bias.new_full(targets.shape, -1.0 / len(targets)))
    return losses.mean(), gradient_states, gradient_items, gradient_bias


@softmax_with_gradients.register_fake
def _(
    states: Tensor,
    item_vectors: Tensor,
    targets: Tensor,
    owners: Tensor | None,
    bias: Tensor | None,
    scale: float,
    chunk: int | None,
    precision: torch.dtype,
    differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = (states, item_vectors, bias) if differentiable else (None, None, None)
    gradients = (states.new_empty(0) if tensor is None else torch.empty_like(tensor) for tensor in wanted)
    return (states.new_empty(()), *gradients)  # type: ignore[return-value]


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.biased = inputs[4] is not None
    ctx.save_for_backward(*output[1:])


def _scale_gradients(ctx: Any, outer: Tensor, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    inner: tuple[Tensor, ...] = ctx.saved_tensors
    # Reading a scalar is free on a CPU and spares a pass over the catalogue; an accelerator would have to wait for it,
    # and a compiler does not know it.
    if torch.compiler.is_compiling() or not _looking_is_free(outer.device) or outer.item() != 1.0:
        inner = tuple(gradient * outer for gradient in inner)
    gradient_states, gradient_items, gradient_bias = inner
    return gradient_states, gradient_items, None, None, gradient_bias if ctx.biased else None, None, None, None, None


softmax_with_gradients.register_autograd(_scale_gradients, setup_context=_keep_gradients)


@torch.library.custom_op("recascade::shared_log_sum_exp", mutates_args=())
def shared_log_sum_exp(
    states: Tensor, vectors: Tensor, log_q: Tensor | None, collisions: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the sum of the exponentials of each state's scores with one set of vectors, chunk by chunk.

    Args:
        states: float ``[P, d]``.
        vectors: float ``[n, d]``.
        log_q: float ``[n]``, subtracted from the scores, or None; gets no gradient.
        collisions: bool ``[P, n]``, scores left out, or None.

    Returns:
        The logarithms ``[P]``, and for the gradient the softmax ``[P, n]`` and its mean of the vectors ``[P, d]``.
    """
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
            if _looking_is_free(states.device):
                row, column = collisions[part].nonzero().unbind(1)
                scores[row, column] = HIDDEN
            else:
                scores.masked_fill_(collisions[part], HIDDEN)
        greatest = scores.amax(1)
        torch.softmax(scores, 1, out=scores)
        sums[part] = greatest - scores.amax(1).log_()
        torch.mm(scores, vectors, out=expected[part])
    return sums, shares, expected


@shared_log_sum_exp.register_fake
def _(
    states: Tensor, vectors: Tensor, log_q: Tensor | None, collisions: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = states.shape[0], vectors.shape[0]
    return states.new_empty(rows), states.new_empty(rows, columns), torch.empty_like(states)


def _keep_shares(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(inputs[0], *output[1:])


def _spread_gradient(ctx: Any, outer: Tensor, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    states, shares, expected = ctx.saved_tensors
    outer = outer[:, None]
    return outer * expected, shares.t() @ (outer * states), None, None


shared_log_sum_exp.register_autograd(_spread_gradient, setup_context=_keep_shares)


def _looking_is_free(device: torch.device) -> bool:
    return device.type == "cpu"


def _chunk_rows(width: int, device: torch.device) -> int:
    if device.type != "cpu":
        return max(_CHUNK_ROWS_LEAST, _CHUNK_ELEMENTS_GPU // width)
    return min(max(_CHUNK_ROWS_LEAST, _CHUNK_ELEMENTS_CPU // width), _CHUNK_ROWS_MOST_CPU)


def _exact_losses(queries: Tensor, item_vectors: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
    scores = queries @ item_vectors.t()
    if bias is not None:
        scores += bias
    return scores.logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]
