from __future__ import annotations

import torch

from recascade.nn.packed_pooling import packed_softmax, packed_sum

OFFSETS = torch.tensor([0, 2, 2, 5])
ROWS = torch.tensor([0, 0, 2, 2, 2])


def test_sum() -> None:
    vectors = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([vectors[:2].sum(0), torch.zeros(3), vectors[2:].sum(0)])
    torch.testing.assert_close(packed_sum(vectors, OFFSETS), expected)
    assert torch.autograd.gradcheck(lambda values: packed_sum(values, OFFSETS), vectors)


def test_sum_without_events() -> None:
    vectors = torch.zeros(0, 3, requires_grad=True)
    sums = packed_sum(vectors, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(sums, torch.zeros(2, 3))
    sums.sum().backward()
    assert vectors.grad.shape == (0, 3)


def test_softmax() -> None:
    logits = (torch.randn(5, 2, dtype=torch.float64) * 1000).requires_grad_()
    expected = torch.cat([logits[:2].softmax(0), logits[2:].softmax(0)])
    torch.testing.assert_close(packed_softmax(logits, OFFSETS, ROWS), expected)
    small = (logits.detach() / 1000).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: packed_softmax(values, OFFSETS, ROWS), small)
