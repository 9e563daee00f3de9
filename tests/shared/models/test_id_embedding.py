from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.models.id_embedding import IdEmbedding


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 2**40), st.integers(1, 9))
def test_new_rows_do_not_depend_on_the_steps_of_growth(steps: list[int], seed: int, dimension: int) -> None:
    torch.manual_seed(0)
    start = IdEmbedding(3, dimension, "item").weight.detach()
    tables = [IdEmbedding(3, dimension, "item") for _ in range(2)]
    for table in tables:
        table.weight.data.copy_(start)
    for step in steps:
        tables[0].grow(step, seed)
    for table in tables:
        table.grow(41, seed)
        assert table.count == 41 and torch.equal(table.weight[:4], start)
    assert torch.equal(tables[0].weight, tables[1].weight)


def test_new_rows_are_normal_and_depend_on_the_seed() -> None:
    table = IdEmbedding(0, 10, "user", initial_deviation=0.5)
    rows = table.grow(20_000, seed=1)[1:].detach()
    assert abs(float(rows.mean())) < 0.01 and abs(float(rows.std()) - 0.5) < 0.01
    assert float(rows[:-1].flatten() @ rows[1:].flatten()) / rows.numel() < 0.01
    other = IdEmbedding(0, 10, "user", initial_deviation=0.5).grow(20_000, seed=2)[1:]
    assert not torch.isclose(rows, other).all(1).any()


def test_the_unknown_have_a_row_of_their_own() -> None:
    table = IdEmbedding(3, 4, "item")
    vectors = table(torch.tensor([-1, 0, 2]))
    assert not vectors[0].any()
    assert torch.equal(vectors[1:], table.weight[[1, 3]])
    with pytest.raises(IndexError):
        table(torch.tensor([3]))


@pytest.mark.parametrize("sparse", [False, True])
def test_means(sparse: bool) -> None:
    table = IdEmbedding(5, 4, "item", initial_deviation=1.0, sparse=sparse)
    indices, offsets = torch.tensor([0, 4, 4, -1]), torch.tensor([0, 2, 2, 4])
    vectors = table(indices)
    expected = torch.stack([vectors[:2].mean(0), torch.zeros(4), vectors[2:].mean(0)])
    means = table.mean(indices, offsets)
    torch.testing.assert_close(means, expected)
    weights = torch.randn(3, 4)
    gradients = [torch.autograd.grad((rows * weights).sum(), table.weight)[0] for rows in (means, expected)]
    assert all(gradient.is_sparse == sparse for gradient in gradients)
    torch.testing.assert_close(gradients[0].to_dense(), gradients[1].to_dense())


def test_growing_to_fewer_rows_changes_nothing() -> None:
    table = IdEmbedding(5, 4, "item")
    weight = table.weight
    assert table.grow(3, seed=0) is weight and table.weight is weight
