from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.int_tower import IntTower

NONE = torch.zeros(0).long()


def requests(users: list[int]) -> Context:
    count = len(users)
    offsets = torch.arange(0, 2 * count + 1, 2)
    items = torch.arange(2 * count) % 6
    return Context(torch.tensor(users), items, torch.zeros(2 * count).long(), offsets)


def make(heads: int = 3, **options) -> IntTower:
    torch.manual_seed(0)
    return IntTower(6, 4, (8, 5), 3, heads, users=5, initial_deviation=1.0, **options)


def test_every_user_vector_meets_its_best_item_vector() -> None:
    model = make()
    users, items = model.user_vectors(requests([0, 1])), model.item_vectors()
    assert users.shape == (2, 2 * 3 * 4) and items.shape == (6, 3 * 4) and not model.single_inner_product
    for user in range(2):
        for item in range(6):
            best = [max((u @ v).item() for v in items[item].view(3, 4)) for u in users[user].view(6, 4)]
            assert model.scores(users, items)[user, item].item() == pytest.approx(sum(best) / 6, abs=1e-6)


def test_user_vectors_come_layer_by_layer_from_every_layer() -> None:
    model = make(similarity="inner_product")
    context = requests([0, 1])
    blocks = model.item_inputs.own_mean(context.items, context.offsets) + model.user_inputs.blocks(context.users)
    first = model.user_layers[0](model.user_excitation(torch.cat(blocks, 1)))
    expected = [model.user_heads[0](first), model.user_heads[1](model.user_layers[1](first))]
    torch.testing.assert_close(model.user_vectors(context), torch.cat(expected, 1))


def test_one_head_is_the_mean_of_the_layers_inner_products() -> None:
    model = make(heads=1)
    assert model.single_inner_product and model.user_width == model.item_width == 4
    context = requests([0, 1])
    users, items = model.user_vectors(context), model.item_vectors()
    blocks = model.item_inputs.own_mean(context.items, context.offsets) + model.user_inputs.blocks(context.users)
    hidden = model.user_excitation(torch.cat(blocks, 1))
    products = []
    for layer, project in zip(model.user_layers, model.user_heads, strict=True):
        hidden = layer(hidden)
        products.append(normalize(project(hidden), dim=1) @ items.T)
    torch.testing.assert_close(model.scores(users, items), sum(products) / 2)
    torch.testing.assert_close(model.scores(users, items), users @ items.T)


def test_the_regulariser_sets_the_positive_item_against_the_other_items() -> None:
    model = make(contrastive_weight=0.5, contrastive_temperature=0.2)
    context, items = requests([0, 1, 2, 3]), torch.tensor([2, 2, 4, 5])
    labels = torch.tensor([1.0, 0.0, 0.0, 1.0])
    users, vectors = model.user_vectors(context), model.item_vectors(items)
    scores = (model.scores(users, vectors) / 0.2).exp()
    # Event 1 shows the item of event 0 again, which is no negative of it.
    own = [scores[0, 0] / scores[0, [0, 2, 3]].sum(), scores[3, 3] / scores[3].sum()]
    expected = -0.5 * torch.stack(own).log().mean()
    torch.testing.assert_close(model.auxiliary_loss(context, items, users, vectors, labels), expected)
    assert model.auxiliary_loss(context, items, users, vectors, torch.zeros(4)) == 0


@pytest.mark.parametrize("extra", [None, torch.arange(10.0).view(5, 2)], ids=["equal inputs", "inputs per event"])
def test_events_of_one_user_or_item_count_as_if_each_were_compared(extra: torch.Tensor | None) -> None:
    model = make(user_extra=2, item_extra=2)
    context = Context(torch.tensor([1, 1, 0, 1, 0]), NONE, NONE, torch.zeros(6).long())
    items, labels = torch.tensor([2, 4, 2, 2, 5]), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    users, vectors = model.user_vectors(context, extra), model.item_vectors(items, extra)
    others = items[:4, None] == items
    others.fill_diagonal_(False)
    logits = (model.scores(users[:4], vectors) / 0.1).masked_fill(others, -torch.inf)
    expected = 0.1 * cross_entropy(logits, torch.arange(4))
    loss = model.auxiliary_loss(context, items, users, vectors, labels)
    torch.testing.assert_close(loss, expected)
    parameters = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected, parameters))


def test_without_layers_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="hidden"):
        IntTower(6, hidden=())
