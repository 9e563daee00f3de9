from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import embedding

from recascade.models.id_embedding import IdEmbedding
from recascade.training.growing import grow_embeddings
from recascade.training.row_adam import RowAdam


@pytest.mark.parametrize("steps", [1, 20])
def test_it_takes_the_steps_of_pytorchs_sparse_adam(steps: int) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    ours.requires_grad_()
    theirs.requires_grad_()
    optimizers = [RowAdam([ours], lr=0.01), torch.optim.SparseAdam([theirs], lr=0.01)]
    for _ in range(steps):
        rows, factors = torch.randint(0, 50, (30,)), torch.randn(30, 8)
        for table, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (embedding(rows, table, sparse=True) * factors).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_untouched_rows_do_not_move() -> None:
    table = torch.randn(10, 4, requires_grad=True)
    before = table.detach().clone()
    optimizer = RowAdam([table])
    for _ in range(3):
        optimizer.zero_grad()
        embedding(torch.tensor([2, 2, 7]), table, sparse=True).square().sum().backward()
        optimizer.step()
    moved = (table.detach() != before).any(dim=1).nonzero()[:, 0]
    assert moved.tolist() == [2, 7]


def test_each_group_has_its_own_step_size() -> None:
    slow, fast = torch.ones(2, 4, requires_grad=True), torch.ones(2, 4, requires_grad=True)
    optimizer = RowAdam([{"params": [slow], "lr": 0.001}, {"params": [fast], "lr": 0.1}])
    for table in (slow, fast):
        embedding(torch.tensor([0]), table, sparse=True).sum().backward()
    optimizer.step()
    torch.testing.assert_close(1 - fast.detach()[0], 100 * (1 - slow.detach()[0]), rtol=1e-3, atol=1e-6)


def test_its_state_grows_with_a_table_and_survives_saving() -> None:
    table = IdEmbedding(5, 4, "user", sparse=True)
    optimizer = RowAdam([table.weight], lr=0.1)
    for count in (5, 9):
        grow_embeddings(table, optimizer, users=count, seed=1)
        optimizer.zero_grad()
        table(torch.arange(count)).square().sum().backward()
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    twin = IdEmbedding(9, 4, "user", sparse=True)
    twin.load_state_dict(table.state_dict())
    other = RowAdam([twin.weight], lr=0.1)
    other.load_state_dict(saved)
    for model, steps in ((table, optimizer), (twin, other)):
        steps.zero_grad()
        model(torch.arange(3)).square().sum().backward()
        steps.step()
    assert torch.equal(table.weight, twin.weight)
