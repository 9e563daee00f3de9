from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.nn.causal_mean import causal_mean
from recascade.nn.packed import PackedLayout


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 45))
def test_equals_the_mean_of_each_window(lengths: list[int], recent: int) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events = torch.randn(sum(lengths), 3, dtype=torch.float64)
    means = causal_mean(events, PackedLayout.of(offsets), recent)
    for start, length in zip(offsets.tolist(), lengths, strict=False):
        for position in range(length):
            window = events[start + max(0, position + 1 - recent) : start + position + 1]
            torch.testing.assert_close(means[start + position], window.mean(0))


def test_gradient() -> None:
    layout = PackedLayout.of(torch.tensor([0, 5, 5, 8]))
    events = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda events: causal_mean(events, layout, 3), (events,))
