from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from recascade.nn.packed import PackedLayout
from recascade.nn.pointwise_attention import pointwise_attention, time_buckets

OFFSETS = torch.tensor([0, 3, 3, 20, 90])
EVENTS = 90
BUCKETS = 30


def definition(
    query: Tensor, key: Tensor, value: Tensor, position_bias: Tensor, time_bias: Tensor, timestamps: Tensor
) -> Tensor:
    """Equation 2 of the paper, one sequence after the other."""
    outputs = []
    for start, end in zip(OFFSETS.tolist(), OFFSETS.tolist()[1:], strict=False):
        steps = torch.arange(end - start)
        times = timestamps[start:end]
        passed = (times[:, None] - times[None, :]).clamp(min=1).float().log() / 0.301
        bias = position_bias[(steps[:, None] - steps).clamp(min=0)] + time_bias[passed.long().clamp(max=BUCKETS - 1)]
        scores = torch.einsum("ihd,jhd->hij", query[start:end], key[start:end]) + bias
        outputs.append(torch.einsum("hij,jhd->ihd", silu(scores).tril(), value[start:end]))
    return torch.cat(outputs)


def attend(
    query: Tensor, key: Tensor, value: Tensor, position_bias: Tensor, time_bias: Tensor, timestamps: Tensor
) -> Tensor:
    layout = PackedLayout.bounded(OFFSETS, EVENTS, 75)
    buckets = time_buckets(timestamps, layout, BUCKETS)
    return pointwise_attention(
        query, key, value, layout, position_bias=position_bias, time_bias=time_bias, buckets=buckets
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_equals_the_definition_with_all_gradients(compiled: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(EVENTS, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    position_bias = torch.randn(80, dtype=torch.float64, requires_grad=True)
    time_bias = torch.randn(BUCKETS, dtype=torch.float64, requires_grad=True)
    timestamps = torch.randint(0, 10_000, (EVENTS,)).sort().values
    leaves = (query, key, value, position_bias, time_bias)
    run = torch.compile(attend, backend="eager", fullgraph=True) if compiled else attend
    attended = run(*leaves, timestamps)
    expected = definition(*leaves, timestamps)
    torch.testing.assert_close(attended, expected)
    outer = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(attended, leaves, outer), torch.autograd.grad(expected, leaves, outer), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_buckets_are_logarithmic_and_bounded() -> None:
    layout = PackedLayout.of(torch.tensor([0, 3]))
    (buckets,) = time_buckets(torch.tensor([0, 1, 10**9]), layout, 20)
    square = buckets.view(16, 16)
    assert square[1, 0] == 0
    assert square[2, 0] == 19
    assert time_buckets(torch.tensor([0, 100, 100]), layout, 20)[0].view(16, 16)[1, 0] == 15
