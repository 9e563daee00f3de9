from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade.nn.masked_softmax import masked_softmax


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=8))
def test_it_is_the_softmax_of_what_is_left(entries: list[tuple[float, bool]]) -> None:
    values = torch.tensor([value for value, _ in entries], dtype=torch.float64)
    mask = torch.tensor([left for _, left in entries])
    shares = masked_softmax(values, mask)
    assert (shares[~mask] == 0).all()
    if mask.any():
        assert torch.allclose(shares[mask], values[mask].softmax(0))


def test_what_is_hidden_changes_nothing_and_gets_no_gradient() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    values = torch.tensor([[1.0, torch.inf, 2.0], [torch.nan, 3.0, -torch.inf]], requires_grad=True)
    shares = masked_softmax(values, mask)
    assert torch.allclose(shares[0, [0, 2]], torch.tensor([1.0, 2.0]).softmax(0))
    assert torch.equal(shares[1], torch.zeros(3))
    (gradient,) = torch.autograd.grad(shares[:, 0].sum(), values)
    assert torch.isfinite(gradient).all() and (gradient[~mask] == 0).all() and gradient[0, 0] > 0
