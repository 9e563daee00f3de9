from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.dat import DAT
from recascade.models.id_embedding import IdEmbedding
from recascade.training.growing import grow_embeddings

# A multiple of the vector registers' width: fused optimizers round the elements after the last full register otherwise.
WIDTH = 16

Optimizers = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizers] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "adam-fused": lambda parameters: torch.optim.Adam(parameters, lr=0.1, fused=True),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=0.3),
    "sparse-adam": lambda parameters: torch.optim.SparseAdam(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


class Tables(nn.Module):
    def __init__(self, users: int, items: int, sparse: bool) -> None:
        super().__init__()
        self.user = IdEmbedding(users, WIDTH, "user", sparse=sparse)
        self.item = IdEmbedding(items, WIDTH, "item", sparse=sparse)


def step(model: Tables, optimizer: torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    users, items = torch.tensor([number % 4, 0, -1]), torch.tensor([2, number % 3, 1])
    loss: Tensor = (model.user(users) * model.item(items)).sum() + model.user(users).sum() * (number + 1)
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_old_rows_train_on_as_if_nothing_had_grown(name: str) -> None:
    trained = []
    for grown in (False, True):
        torch.manual_seed(0)
        model = Tables(4, 3, sparse=name == "sparse-adam")
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        for number in range(6):
            if grown and number in (0, 3, 5):
                grow_embeddings(model, optimizer, users=4 + number, items=3 + 2 * number, seed=1)
            step(model, optimizer, number)
        trained.append(model)
    plain, larger = trained
    assert (larger.user.count, larger.item.count) == (9, 13)
    assert torch.equal(larger.user.weight[:5], plain.user.weight) and torch.equal(
        larger.item.weight[:4], plain.item.weight
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_when_a_table_grew_does_not_matter_to_its_rows(name: str) -> None:
    trained = []
    for first in (0, 4):
        torch.manual_seed(0)
        model = Tables(4, 3, sparse=name == "sparse-adam")
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        for number in range(8):
            if number == first:
                grow_embeddings(model, optimizer, users=6, items=3, seed=1)
            step(model, optimizer, number)
        optimizer.zero_grad()
        model.user(torch.tensor([5, 4])).sum().backward()
        optimizer.step()
        trained.append(model)
    assert torch.equal(trained[0].user.weight, trained[1].user.weight)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_new_rows_have_the_state_that_a_new_optimizer_gives(name: str) -> None:
    trained = []
    for grown_first in (True, False):
        torch.manual_seed(0)
        model = Tables(4, 3, sparse=name == "sparse-adam")
        if grown_first:
            grow_embeddings(model, users=6, items=5, seed=1)
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        grow_embeddings(model, optimizer, users=6, items=5, seed=1)
        model.user(torch.tensor([5, 4])).sum().backward()
        optimizer.step()
        trained.append(model.user.weight)
    assert torch.equal(trained[0], trained[1])


def test_new_rows_learn() -> None:
    torch.manual_seed(0)
    model = Tables(4, 3, sparse=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step(model, optimizer, 0)
    grow_embeddings(model, optimizer, users=6, seed=1)
    before = model.user.weight.detach().clone()
    optimizer.zero_grad()
    model.user(torch.tensor([5])).sum().backward()
    optimizer.step()
    changed = (model.user.weight != before).any(1)
    assert changed[6] and not changed[5]
    assert {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} == {
        id(parameter) for parameter in model.parameters()
    }
    assert len(optimizer.state) == 2


def test_a_state_saved_after_growth_can_be_loaded() -> None:
    torch.manual_seed(0)
    model = Tables(4, 3, sparse=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step(model, optimizer, 0)
    grow_embeddings(model, optimizer, users=6, items=9, seed=1)
    other = Tables(6, 9, sparse=False)
    resumed = torch.optim.Adam(other.parameters(), lr=0.1)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    step(model, optimizer, 1)
    step(other, resumed, 1)
    assert torch.equal(model.user.weight, other.user.weight) and torch.equal(model.item.weight, other.item.weight)


def test_a_grown_backbone_gives_the_known_what_it_gave() -> None:
    torch.manual_seed(0)
    model = DAT(5, 4, 8, (6,), recent=3, embedding_dimension=8)
    context = Context(
        torch.tensor([0, 3, -1]), torch.tensor([1, 4, -1]), torch.zeros(3).long(), torch.tensor([0, 2, 3, 3])
    )
    items = torch.tensor([0, 4, -1])
    with torch.no_grad():
        before = model.user_vectors(context), model.item_vectors(items)
        grow_embeddings(model, users=9, items=7, seed=3)
        assert torch.equal(model.user_vectors(context), before[0]) and torch.equal(model.item_vectors(items), before[1])
        assert len(model.item_vectors()) == 7
    # Tables of one width begin with different rows.
    identity, augmented = model.towers.item_inputs.identity.weight[6:], model.item_augmented.weight[6:]
    assert identity.shape == (2, 8) and not torch.isclose(identity, augmented).any()
