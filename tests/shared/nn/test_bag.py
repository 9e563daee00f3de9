from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.nn.bag import bag_mean, bag_sum


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), max_size=6), st.booleans(), st.integers(0, 1000))
def test_bags_are_loops_over_rows(lengths: list[int], weighted: bool, seed: int) -> None:
    torch.manual_seed(seed)
    table = torch.randn(5, 3, requires_grad=True)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.randint(0, 5, (int(offsets[-1]),))
    weights = torch.randn(len(rows)) if weighted else None
    factors = torch.ones(len(rows)) if weights is None else weights
    bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    expected = torch.stack(
        [torch.zeros(3), *((table[rows[start:stop]] * factors[start:stop, None]).sum(0) for start, stop in bounds)]
    )[1:]
    sums = bag_sum(table, rows, offsets, weights)
    torch.testing.assert_close(sums, expected)
    if weights is None:
        torch.testing.assert_close(bag_mean(table, rows, offsets), expected / offsets.diff().clamp(min=1)[:, None])
    gradient = torch.randn_like(expected)
    if len(lengths):
        found, wanted = (torch.autograd.grad((result * gradient).sum(), table)[0] for result in (sums, expected))
        torch.testing.assert_close(found, wanted)
