from __future__ import annotations

import math

import pytest
import torch

from recascade.nn.list_losses import (
    attention_rank,
    click_log_loss,
    listwise_softmax,
    remaining_labels,
    slot_cross_entropy,
    slot_unlikelihood,
)

SCORE_LOSSES = pytest.mark.parametrize("loss", [listwise_softmax, attention_rank, click_log_loss])
MASK = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]


@SCORE_LOSSES
def test_padding_and_lists_without_clicks_do_not_matter(loss) -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(3, 4), torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 0]])
    garbled_scores, garbled_labels = scores.masked_fill(~MASK, 80.0), labels.masked_fill(~MASK, 1.0)
    torch.testing.assert_close(loss(scores, labels, MASK), loss(garbled_scores, garbled_labels, MASK))
    if loss is not click_log_loss:
        unclicked = torch.cat([labels, torch.zeros(1, 4)])
        more = loss(torch.cat([scores, scores[:1]]), unclicked, torch.cat([MASK, MASK[:1]]))
        torch.testing.assert_close(loss(scores, labels, MASK), more)


@SCORE_LOSSES
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_all_or_no_clicks_give_finite_gradients(loss, label: float) -> None:
    scores = torch.randn(3, 4, requires_grad=True)
    value = loss(scores, torch.full((3, 4), label), MASK)
    value.backward()
    assert value.isfinite() and scores.grad is not None and scores.grad.isfinite().all()
    if label == 0 and loss is not click_log_loss:
        assert value == 0 and (scores.grad == 0).all()


@SCORE_LOSSES
def test_extreme_scores_give_finite_gradients(loss) -> None:
    scores = torch.tensor([[200.0, -200.0, 0.0, 0.0]], requires_grad=True)
    value = loss(scores, torch.tensor([[0.0, 1, 0, 0]]), torch.ones(1, 4, dtype=torch.bool))
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all()


@SCORE_LOSSES
def test_descending_ranks_the_clicked_first(loss) -> None:
    labels, mask = torch.tensor([[0.0, 1, 0, 1]]), torch.ones(1, 4, dtype=torch.bool)
    scores = torch.zeros(1, 4, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        loss(scores, labels, mask).backward()
        optimizer.step()
    assert set(scores[0].topk(2).indices.tolist()) == {1, 3}


def test_score_losses_by_hand() -> None:
    scores, mask = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    share = math.e / (math.e + 1)
    assert listwise_softmax(scores, torch.tensor([[1.0, 0.0]]), mask).item() == pytest.approx(-math.log(share))
    assert attention_rank(scores, torch.tensor([[1.0, 0.0]]), mask).item() == pytest.approx(-2 * math.log(share))
    graded = listwise_softmax(scores, torch.tensor([[3.0, 1.0]]), mask).item()
    assert graded == pytest.approx(-0.75 * math.log(share) - 0.25 * math.log(1 - share))


def test_remaining_labels_leave_out_what_stands_before() -> None:
    remaining = remaining_labels(torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[2, 0, -1]]))
    assert remaining.tolist() == [[[1, 0, 2], [1, 0, 0], [0, 0, 0]]]


def test_slot_losses_by_hand() -> None:
    shares = torch.tensor([[[0.5, 0.3, 0.2], [0.6, 0.0, 0.4], [1.0, 0.0, 0.0]]])
    labels, mask = torch.tensor([[0.0, 1.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    prefix = torch.tensor([[1, 2, 0]])
    first, second = -(math.log(0.3) + math.log(0.2)) / 2, -math.log(0.4)
    weight = 1 / math.log2(3)
    expected = (first + weight * second) / (1 + weight)
    assert slot_cross_entropy(shares.log(), labels, mask, prefix).item() == pytest.approx(expected, rel=1e-5)
    expected = -(math.log(0.5) + weight * math.log(0.4)) / (1 + weight)
    assert slot_unlikelihood(shares.log(), labels, mask, prefix).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [slot_cross_entropy, slot_unlikelihood])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_slot_losses_are_finite_with_all_or_no_clicks(loss, label: float) -> None:
    logits = torch.randn(3, 4, 4, requires_grad=True)
    shares = logits.masked_fill(~MASK[:, None], -torch.inf).log_softmax(2)
    prefix = torch.arange(4).expand(3, -1).masked_fill(~MASK, -1)
    value = loss(shares, torch.full((3, 4), label), MASK, prefix)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
