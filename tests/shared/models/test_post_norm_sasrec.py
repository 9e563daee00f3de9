"""RecBole's SASRec as a next-item model."""

from __future__ import annotations

import pytest
import torch

from recascade.contracts.context import Context
from recascade.errors import DataError
from recascade.models.next_item import NewestStates, NextItemModel
from recascade.models.post_norm_sasrec import PostNormSASRec


def histories(lengths: list[int]) -> Context:
    torch.manual_seed(0)
    items = torch.randint(15, (sum(lengths),))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Context(torch.arange(len(lengths)), items, torch.zeros_like(items), offsets)


def some_model() -> PostNormSASRec:
    torch.manual_seed(1)
    return PostNormSASRec(15, dimension=8, max_length=6)


def test_it_is_a_next_item_model() -> None:
    model = some_model()
    assert isinstance(model, NextItemModel)
    assert isinstance(model, NewestStates)
    assert torch.equal(model.item_vectors(torch.tensor([3])), model.item_vectors()[3:4])


def test_states_of_a_batch_are_those_of_each_history_alone() -> None:
    model, context = some_model().eval(), histories([4, 0, 6, 1])
    together = model.states(context)
    alone = [model.states(context.between(row, row + 1)) for row in range(4) if context.lengths[row]]
    torch.testing.assert_close(together, torch.cat(alone))


def test_newest_states_are_the_last_of_each_history() -> None:
    model, context = some_model().eval(), histories([4, 0, 6, 1])
    newest, states = model.newest_states(context), model.states(context)
    torch.testing.assert_close(newest[[0, 2, 3]], states[[3, 9, 10]])
    assert not newest[1].any()


def test_a_history_that_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match="reads at most 6"):
        some_model().states(histories([7]))
