from __future__ import annotations

import torch

from recascade.nn.category_alignment import category_alignment


def test_the_loss_is_the_distance_of_covariances() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(12, 3)
    # Category 5 is the greatest, 2 and 7 are compared with it, 9 has one item, and 0 is no category.
    categories = torch.tensor([5, 2, 0, 5, 7, 5, 2, 9, 7, 5, 0, 7])
    covariances = {number: torch.cov(vectors[categories == number].T) for number in (5, 2, 7)}
    expected = sum((covariances[number] - covariances[5]).square().sum() for number in (2, 7))
    torch.testing.assert_close(category_alignment(vectors, categories), expected)


def test_categories_of_one_shape_have_no_loss() -> None:
    vectors = torch.randn(5, 3)
    shifted = torch.cat([vectors, vectors + torch.randn(3)])
    loss = category_alignment(shifted, torch.tensor([1] * 5 + [2] * 5))
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-9, rtol=0)


def test_without_categories_there_is_no_loss() -> None:
    vectors = torch.randn(3, 3, requires_grad=True)
    assert category_alignment(vectors, torch.zeros(3, dtype=torch.int64)) == 0
    assert category_alignment(vectors, torch.tensor([1, 2, 3])) == 0
