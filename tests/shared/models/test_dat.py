from __future__ import annotations

import numpy as np
import pytest
import torch

from recascade.contracts.context import Context
from recascade.data.features import FeatureTable
from recascade.errors import ConfigurationError
from recascade.models.dat import DAT, mimic_loss
from recascade.nn.category_alignment import category_alignment

USERS, ITEMS = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 3, 2, 1])
LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0])


def context() -> Context:
    return Context(USERS, torch.tensor([0, 1]), torch.zeros(2).long(), torch.tensor([0, 1, 2, 2, 2]))


def features() -> FeatureTable:
    return FeatureTable(
        categorical=np.array([[1, 1], [2, 1], [2, 1], [1, 1]], dtype=np.int32),
        categorical_names=("genre", "era"),
        cardinalities=(3, 2),
        numeric=np.zeros((4, 0), dtype=np.float32),
        numeric_names=(),
    )


def auxiliary(model: DAT, labels: torch.Tensor = LABELS) -> torch.Tensor:
    users, items = model.user_vectors(context()), model.item_vectors(ITEMS)
    return model.auxiliary_loss(context(), ITEMS, users, items, labels)


def test_only_augmented_vectors_of_positive_events_learn_to_mimic() -> None:
    torch.manual_seed(0)
    model = DAT(5, 4, 8, (6,), recent=2)
    auxiliary(model).backward()
    for name, parameter in model.named_parameters():
        if "augmented" not in name:
            assert parameter.grad is None or not parameter.grad.any(), name
    assert model.user_augmented.weight.grad.any(1).tolist() == [False, True, False, True, False]
    assert model.item_augmented.weight.grad.any(1).tolist() == [False, False, False, True, False, True]


def test_no_positives_no_loss() -> None:
    torch.manual_seed(0)
    assert auxiliary(DAT(5, 4, 8, (6,), recent=2), torch.zeros(4)) == 0


def test_the_mimic_loss_is_the_mean_squared_distance_of_unit_vectors() -> None:
    augmented = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    mimicked = torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    loss = mimic_loss(augmented, mimicked, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor((0.6**2 + 0.2**2) / 2))


def test_weights_of_the_sides() -> None:
    losses = []
    for weight in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.25)):
        torch.manual_seed(0)
        losses.append(auxiliary(DAT(5, 4, 8, (6,), recent=2, mimic_weight=weight)))
    torch.testing.assert_close(losses[2], 0.5 * losses[0] + 0.25 * losses[1])


def test_mimicking_brings_an_augmented_vector_to_the_other_tower() -> None:
    torch.manual_seed(0)
    model = DAT(5, 4, 8, (6,), recent=2)
    optimizer = torch.optim.Adam([model.user_augmented.weight, model.item_augmented.weight], lr=0.01)
    first = float(auxiliary(model).detach())
    for _ in range(200):
        optimizer.zero_grad()
        loss = auxiliary(model)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first


def test_augmented_vectors_are_read_without_an_identity() -> None:
    torch.manual_seed(0)
    model = DAT(5, 4, 8, (6,), recent=0, user_identity=False, initial_deviation=1.0)
    vectors = model.user_vectors(context())
    assert not torch.isclose(vectors[0], vectors[1]).all()
    assert model.towers.user_inputs.identity is None


def test_categories_are_aligned() -> None:
    losses = []
    for category in (None, "genre"):
        torch.manual_seed(0)
        model = DAT(5, 4, 8, (6,), recent=0, item_features=features(), category=category, alignment_weight=2.0)
        losses.append(auxiliary(model))
    # Item 4 is outside of the feature table and has no category.
    expected = category_alignment(model.item_vectors(ITEMS), torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(losses[1] - losses[0], 2 * expected)


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'gender'.*'genre'"):
        DAT(5, 4, item_features=features(), category="gender")
    with pytest.raises(ConfigurationError, match="'genre'"):
        DAT(5, 4, category="genre")
