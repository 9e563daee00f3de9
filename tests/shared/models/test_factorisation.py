from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from recascade.contracts.context import Context
from recascade.data.features import FeatureTable
from recascade.models.factorisation import Factorisation


def requests(users: torch.Tensor) -> Context:
    none = torch.zeros(0, dtype=torch.int64)
    return Context(users, none, none, torch.zeros(len(users) + 1, dtype=torch.int64))


def genres(rows: int) -> FeatureTable:
    return FeatureTable(
        categorical=(np.arange(rows) % 2 + 1).astype(np.int32)[:, None],
        categorical_names=("genre",),
        cardinalities=(3,),
        numeric=np.zeros((rows, 0), dtype=np.float32),
        numeric_names=(),
    )


def test_the_score_is_the_product_of_vectors_and_both_biases() -> None:
    torch.manual_seed(0)
    model = Factorisation(6, 4, 3, item_features=genres(6))
    users, items = torch.tensor([0, 3]), torch.tensor([5, 2])
    left = model.user_inputs.identity(users)
    right = model.item_inputs.identity(items) + model.item_inputs.features(items)
    expected = (left[:, :3] * right[:, :3]).sum(1) + left[:, 3] + right[:, 3]
    torch.testing.assert_close(model.score(model.user_vectors(requests(users)), model.item_vectors(items)), expected)


def test_an_unknown_pair_scores_nothing() -> None:
    model = Factorisation(6, 4, 3)
    unknown = torch.tensor([-1])
    assert model.score(model.user_vectors(requests(unknown)), model.item_vectors(unknown)) == 0


def test_features_carry_over_to_items_that_training_never_saw() -> None:
    torch.manual_seed(0)
    model = Factorisation(20, 10, 4, item_features=genres(20))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    random = np.random.default_rng(0)
    for _ in range(150):
        users, items = torch.from_numpy(random.integers(0, 10, 64)), torch.from_numpy(random.integers(0, 14, 64))
        scores = model.score(model.user_vectors(requests(users)), model.item_vectors(items))
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(scores, (users % 2 == items % 2).float()).backward()
        optimizer.step()
    with torch.no_grad():
        scores = model.scores(model.user_vectors(requests(torch.arange(10))), model.item_vectors())[:, 14:]
    liked = (torch.arange(10)[:, None] % 2) == (torch.arange(14, 20) % 2)
    assert scores[liked].min() > scores[~liked].max()
