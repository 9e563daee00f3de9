from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade.nn.stable_top_k import stable_top_k

DTYPES = (torch.float32, torch.float64)
VALUES = st.lists(st.sampled_from([-torch.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 3.5]), min_size=1, max_size=40)


@pytest.mark.parametrize("dtype", DTYPES)
@given(values=VALUES, k=st.integers(1, 50))
def test_equals_a_sort_by_value_then_place(dtype: torch.dtype, values: list[float], k: int) -> None:
    row = torch.tensor([values], dtype=dtype)
    best, places = stable_top_k(row, k)
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]
    assert places[0].tolist() == expected
    assert torch.equal(best[0], row[0, expected])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_independent(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 5, 30, dtype=dtype)
    best, places = stable_top_k(values, 7)
    assert torch.equal(best, values.topk(7).values)
    assert torch.equal(values.gather(-1, places), best)
