from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade_cs3.cms import CascadeVectors
from recascade_cs3.cts import CrossVectors
from recascade_cs3.running_mean import Occurrences, RunningMeans


def one_by_one(table: np.ndarray, rows: np.ndarray, values: np.ndarray, retention: float) -> np.ndarray:
    table = table.copy()
    for row, value in zip(rows, values, strict=True):
        table[row] = retention * table[row] + (1 - retention) * value
    return table


@given(st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=5), st.floats(0, 0.99), st.integers(0, 99))
def test_the_closed_form_equals_writing_one_by_one(writes: list[list[int]], retention: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    means = RunningMeans(3, retention)
    means.grow(5)
    expected = np.zeros((5, 3))
    for rows in writes:
        values = random.normal(size=(len(rows), 3)).astype(np.float32)
        means.write(Occurrences.of(np.array(rows, dtype=np.int64)), torch.from_numpy(values))
        expected = one_by_one(expected, np.array(rows, dtype=np.int64), values, retention)
    np.testing.assert_allclose(means.read(torch.arange(5)).numpy(), expected, atol=1e-6)


def test_writing_in_one_batch_or_in_two_is_the_same() -> None:
    rows, values = np.array([0, 1, 0, 0, 1]), torch.randn(5, 2)
    whole, halves = RunningMeans(2, 0.8), RunningMeans(2, 0.8)
    for means in (whole, halves):
        means.grow(2)
    whole.write(Occurrences.of(rows), values)
    for part in (slice(0, 3), slice(3, 5)):
        halves.write(Occurrences.of(rows[part]), values[part])
    torch.testing.assert_close(whole.values, halves.values)


@pytest.mark.parametrize("times", [1, 3, 10])
def test_a_constant_is_approached_geometrically(times: int) -> None:
    means = RunningMeans(4, 0.8)
    means.grow(1)
    constant = torch.randn(4)
    for _ in range(times):
        means.write(Occurrences.of(np.zeros(1, dtype=np.int64)), constant[None])
    distance = (means.read(torch.tensor([0]))[0] - constant).norm()
    torch.testing.assert_close(distance, 0.8**times * constant.norm())


def test_the_pseudo_gradient_of_a_parameter_server_gives_the_same() -> None:
    means = RunningMeans(4, 0.8)
    means.grow(3)
    slot = torch.zeros(3, 4, requires_grad=True)
    server = torch.optim.SGD([slot], lr=1 - 0.8)
    for step in range(20):
        row, vector = step % 3, torch.randn(4)
        means.write(Occurrences.of(np.array([row])), vector[None])
        gradient = torch.zeros(3, 4)
        gradient[row] = slot.detach()[row] - vector
        slot.grad = gradient
        server.step()
    torch.testing.assert_close(means.read(torch.arange(3)), slot.detach())


def test_unknown_rows_are_zero_and_stay_zero() -> None:
    means = RunningMeans(2, 0.5)
    means.grow(2)
    means.write(Occurrences.of(np.array([0, 1])), torch.ones(2, 2))
    assert means.read(torch.tensor([-1, 5])).eq(0).all()
    means.grow(9)
    assert means.read(torch.tensor([5])).eq(0).all()
    assert means.read(torch.tensor([0])).ne(0).all()


def test_cross_vectors_move_on_positives_only_and_take_the_other_side() -> None:
    cross = CrossVectors(user_width=3, item_width=2, alpha=0.8)
    cross.users.grow(4)
    cross.items.grow(4)
    user_vectors, item_vectors = torch.randn(4, 3), torch.randn(4, 2)
    labels = np.array([1, 0, 1, 0], dtype=np.float32)
    users, items = np.array([0, 1, 0, 2]), np.array([1, 1, 2, 3])
    cross.write(users, items, labels, user_vectors, item_vectors)
    expected = one_by_one(np.zeros((4, 2)), users[labels > 0], item_vectors.numpy()[labels > 0], 0.8)
    np.testing.assert_allclose(cross.users.read(torch.arange(4)).numpy(), expected, atol=1e-6)
    expected = one_by_one(np.zeros((4, 3)), items[labels > 0], user_vectors.numpy()[labels > 0], 0.8)
    np.testing.assert_allclose(cross.items.read(torch.arange(4)).numpy(), expected, atol=1e-6)
    assert cross.users.read(torch.tensor([1, 2, 3])).eq(0).all()


def test_cascade_vectors_move_on_every_event() -> None:
    cascade = CascadeVectors(2, beta=0.8)
    cascade.users.grow(3)
    cascade.items.grow(3)
    users, items, hidden = np.array([0, 0, 1]), np.array([2, 1, 2]), torch.randn(3, 2)
    cascade.write(users, items, hidden)
    for means, rows in ((cascade.users, users), (cascade.items, items)):
        expected = one_by_one(np.zeros((3, 2)), rows, hidden.numpy(), 0.8)
        np.testing.assert_allclose(means.read(torch.arange(3)).numpy(), expected, atol=1e-6)


def test_no_gradient_enters_a_table() -> None:
    means = RunningMeans(2, 0.8)
    means.grow(1)
    vectors = torch.ones(1, 2, requires_grad=True)
    means.write(Occurrences.of(np.array([0])), vectors * 2)
    read = means.read(torch.tensor([0]))
    assert not means.values.requires_grad
    assert not read.requires_grad
