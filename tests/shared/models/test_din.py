from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from recascade.contracts.context import Context
from recascade.contracts.ranker import Ranker
from recascade.data.features import FeatureTable
from recascade.errors import ConfigurationError
from recascade.models.din import DIN

ITEMS, USERS = 20, 6


def requests() -> Context:
    lengths = torch.tensor([3, 0, 12, 1])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    random = np.random.default_rng(0)
    items = torch.from_numpy(random.integers(-1, ITEMS, 16))
    items[5] = 8
    return Context(torch.tensor([0, 5, -1, 2]), items, torch.zeros(16).long(), offsets)


def features(rows: int) -> FeatureTable:
    random = np.random.default_rng(rows)
    return FeatureTable(
        categorical=random.integers(0, 3, (rows, 1)).astype(np.int32),
        categorical_names=("genre",),
        cardinalities=(3,),
        numeric=random.normal(size=(rows, 1)).astype(np.float32),
        numeric_names=("price",),
    )


OPTIONS = {
    "ids": dict(users=USERS),
    "softmax": dict(users=USERS, attention_weights="softmax"),
    "no_user_id": dict(),
    "features": dict(users=USERS, item_features=features(ITEMS - 3), user_features=features(USERS - 2)),
    "content": dict(item_identity=False, item_features=features(ITEMS), users=USERS),
    "sparse": dict(users=USERS, sparse=True),
}


@pytest.fixture(params=OPTIONS)
def model(request) -> DIN:
    torch.manual_seed(0)
    return DIN(ITEMS, hidden_width=7, initial_deviation=1.0, **OPTIONS[request.param])


def test_many_candidates_score_as_each_by_itself(model) -> None:
    candidates = torch.from_numpy(np.random.default_rng(1).integers(-1, ITEMS, (4, 5)))
    scores = model.score(requests(), candidates)
    assert isinstance(model, Ranker) and scores.shape == (4, 5)
    assert scores.isfinite().all()
    for place in range(5):
        hidden = model.hidden(requests(), candidates[:, place])
        assert hidden.shape == (4, model.hidden_width)
        torch.testing.assert_close(model.logit(hidden), scores[:, place], atol=1e-5, rtol=1e-5)


def test_a_request_does_not_depend_on_the_others(model) -> None:
    candidates = torch.tensor([3, 4, 5, 6])
    together = model.hidden(requests(), candidates)
    for row in range(4):
        alone = model.hidden(requests().between(row, row + 1), candidates[[row]])
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=1e-5)


def test_the_last_hidden_layer_is_bounded(model) -> None:
    hidden = model.hidden(requests(), torch.tensor([3, 4, 5, 6]))
    assert hidden.abs().max() <= 1


def test_only_the_latest_events_are_read(model) -> None:
    candidates = torch.tensor([3, 4, 5, 6])
    before = model.hidden(requests(), candidates)
    assert torch.equal(model.hidden(requests().last(10), candidates), before)
    assert not torch.equal(model.hidden(requests().last(9), candidates), before)


def test_the_history_is_read_through_the_candidate() -> None:
    torch.manual_seed(0)
    model = DIN(ITEMS, initial_deviation=1.0)
    candidates = torch.tensor([[3, 4]] * 4)
    context = requests()
    other = replace(context, items=(context.items + 7) % ITEMS)
    change = model.score(other, candidates) - model.score(context, candidates)
    assert change[1].abs().max() == 0 and not torch.isclose(change[0, 0], change[0, 1])


def test_everything_learns(model) -> None:
    model.score(requests(), torch.tensor([[3, 4]] * 4)).square().sum().backward()
    for name, parameter in model.named_parameters():
        # A softmax does not change with a bias.
        if name == "attention.output.bias" and model.attention.weights == "softmax":
            continue
        assert parameter.grad is not None and parameter.grad.to_dense().any(), name


def test_a_batch_without_any_history(model) -> None:
    candidates = torch.tensor([3, 4, 5, 6])
    hidden = model.hidden(requests().last(0), candidates)
    torch.testing.assert_close(hidden[1], model.hidden(requests(), candidates)[1], atol=1e-6, rtol=1e-5)
    hidden.sum().backward()


def test_items_without_inputs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="item"):
        DIN(ITEMS, item_identity=False)


def test_it_learns_what_no_inner_product_of_separate_vectors_says() -> None:
    """A candidate is liked if it is in the history."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = DIN(8, hidden=(32,), initial_deviation=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def batch(size: int) -> tuple[Context, torch.Tensor, torch.Tensor]:
        histories = np.stack([random.permutation(8)[:3] for _ in range(size)])
        candidates = random.integers(0, 8, size)
        labels = (histories == candidates[:, None]).any(1)
        offsets = torch.arange(0, 3 * size + 1, 3)
        items = torch.from_numpy(histories.ravel())
        context = Context(torch.full((size,), -1), items, torch.zeros_like(items), offsets)
        return context, torch.from_numpy(candidates), torch.from_numpy(labels).float()

    for _ in range(300):
        context, candidates, labels = batch(128)
        loss = binary_cross_entropy_with_logits(model.logit(model.hidden(context, candidates)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    context, candidates, labels = batch(500)
    correct = (model.logit(model.hidden(context, candidates)) > 0) == (labels > 0)
    assert correct.float().mean() > 0.98
