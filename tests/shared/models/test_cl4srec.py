"""CL4SRec: its views, its contrast, and that without them it is SASRec."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch.nn.functional import cross_entropy

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.models.cl4srec import CL4SRec
from recascade.models.sasrec import SASRec
from recascade.training.cl4srec import CL4SRecModule, contrast_of_views
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule

LENGTHS = (7, 1, 4)


def histories() -> Context:
    torch.manual_seed(0)
    items = torch.randint(20, (sum(LENGTHS),))
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    return Context(torch.arange(len(LENGTHS)), items, torch.zeros_like(items), offsets)


def some_model() -> CL4SRec:
    torch.manual_seed(1)
    return CL4SRec(20, dimension=8, dropout=0.0)


def test_without_masked_items_it_is_sasrec() -> None:
    torch.manual_seed(1)
    plain = SASRec(20, dimension=8, dropout=0.0)
    torch.testing.assert_close(some_model().states(histories()), plain.states(histories()))


def test_a_view_crops_masks_or_reorders_each_history() -> None:
    context, kinds = histories(), set()
    for _ in range(60):
        view = some_model_view(context)
        for row in range(len(LENGTHS)):
            before = context.items[context.offsets[row] : context.offsets[row + 1]]
            after = view.items[view.offsets[row] : view.offsets[row + 1]]
            if len(after) < len(before):
                windows = before.unfold(0, len(after), 1)
                assert (windows == after).all(1).any()
                kinds.add("crop")
            elif (after == 20).any():
                assert torch.equal(before[after != 20], after[after != 20])
                kinds.add("mask")
            else:
                assert torch.equal(before.sort().values, after.sort().values)
                kinds.add("same" if torch.equal(before, after) else "reorder")
    assert kinds == {"crop", "mask", "reorder", "same"}


_MODEL = CL4SRec(20, dimension=8)


def some_model_view(context: Context) -> Context:
    return _MODEL.view(context)


def test_masked_items_are_read_as_one_vector_that_is_learnt() -> None:
    model, context = some_model(), histories()
    masked = Context(context.users, torch.full_like(context.items, 20), context.timestamps, context.offsets)
    states = model.states(masked)
    torch.testing.assert_close(states[0], states[7])
    (gradient,) = torch.autograd.grad(states.square().sum() + states[:, 0].sum(), model.mask_vector)
    assert gradient.abs().sum() > 0


def test_the_contrast_finds_the_other_view_among_all() -> None:
    torch.manual_seed(2)
    first, second = torch.randn(3, 4), torch.randn(3, 4)
    states = torch.cat([first, second])
    losses = []
    for row in range(6):
        others = [other for other in range(6) if other != row]
        scores = torch.stack([states[row] @ states[other] for other in others])
        losses.append(cross_entropy(scores, torch.tensor(others.index((row + 3) % 6))))
    torch.testing.assert_close(contrast_of_views(first, second), torch.stack(losses).mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_contrast_is_in_single_precision_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    first, second = 200 * torch.randn(2, 3, 64).to(dtype)
    exact = contrast_of_views(first.float(), second.float())
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(contrast_of_views(first, second), exact)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_that_of_next_items_and_the_weighted_contrast(
    weight: float, encoded_split: Callable[..., EncodedSplit]
) -> None:
    data = encoded_split([[0, 1, 2], [3, 4, 5]], items=20, validation=[[1], [2]])
    batch = NextItemBatch(histories(), torch.arange(12), torch.randint(20, (12,)))
    model = some_model()
    plain = NextItemModule(model, data, LossConfig(), TrainerConfig()).training_step(batch, 0)
    module = CL4SRecModule(model, data, LossConfig(), TrainerConfig(), contrast=weight)
    torch.manual_seed(5)
    loss = module.training_step(batch, 0)
    torch.manual_seed(5)
    views = [cast(CL4SRec, module.model).newest_states(model.view(batch.context)) for _ in range(2)]
    torch.testing.assert_close(loss, plain + weight * contrast_of_views(*views))
