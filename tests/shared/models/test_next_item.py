"""What every neural next-item model must satisfy, and the retriever that serves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.data.features import FeatureTable, MultiValued
from recascade.errors import DataError
from recascade.models.dssm import DSSM
from recascade.models.gru4rec import GRU4Rec
from recascade.models.hstu import HSTU
from recascade.models.next_item import InnerProductRetriever, NextItemModel
from recascade.models.sasrec import SASRec
from recascade.nn.losses import full_softmax
from recascade.nn.packed import PackedLayout

ITEMS, USERS, LENGTH = 40, 10, 30
DAY = 86_400


def features(rows: int) -> FeatureTable:
    random = np.random.default_rng(0)
    counts = random.integers(0, 4, rows)
    return FeatureTable(
        categorical=random.integers(0, 5, (rows, 2)).astype(np.int32),
        categorical_names=("brand", "size"),
        cardinalities=(5, 5),
        numeric=random.normal(size=(rows, 1)).astype(np.float32),
        numeric_names=("price",),
        multi_valued=(
            MultiValued(
                "categories",
                6,
                random.integers(1, 6, counts.sum()).astype(np.int32),
                np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            ),
        ),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "sasrec": lambda: SASRec(ITEMS, 16, blocks=2, heads=2, max_length=LENGTH),
    "sasrec-pre-norm": lambda: SASRec(ITEMS, 16, max_length=LENGTH, order="pre_norm", output_projection=False),
    "hstu": lambda: HSTU(ITEMS, 16, blocks=2, heads=2, max_length=LENGTH),
    "hstu-unit-length": lambda: HSTU(
        ITEMS, 16, max_length=LENGTH, time_buckets=0, normaliser="visible", output="unit_length", value_dimension=8
    ),
    "gru4rec": lambda: GRU4Rec(ITEMS, 16, max_length=LENGTH),
    "gru4rec-wide": lambda: GRU4Rec(ITEMS, 16, hidden=24, layers=2, max_length=LENGTH, constrained=False),
    "dssm": lambda: DSSM(ITEMS, 16, recent=4, max_length=LENGTH),
    "dssm-features": lambda: DSSM(
        ITEMS,
        16,
        hidden=(),
        max_length=LENGTH,
        users=USERS,
        item_features=features(ITEMS),
        user_features=features(USERS),
        similarity="cosine",
    ),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[request.param]()


def make_context(lengths: list[int], seed: int = 0) -> Context:
    generator = torch.Generator().manual_seed(seed)
    events = sum(lengths)
    return Context(
        users=torch.arange(len(lengths)) % USERS,
        items=torch.randint(0, ITEMS, (events,), generator=generator),
        timestamps=torch.randint(0, 100 * DAY, (events,), generator=generator).sort().values,
        offsets=torch.tensor([0, *lengths]).cumsum(0),
    )


def single(context: Context, row: int, events: int | None = None) -> Context:
    start, end = context.offsets[row : row + 2].tolist()
    end = end if events is None else start + events
    return Context(
        context.users[row : row + 1],
        context.items[start:end],
        context.timestamps[start:end],
        torch.tensor([0, end - start]),
    )


def test_states_do_not_see_the_future(model: nn.Module) -> None:
    model.eval()
    context = make_context([20])
    with torch.no_grad():
        whole = model.states(context)
        for events in (1, 7, 19):
            torch.testing.assert_close(model.states(single(context, 0, events)), whole[:events], rtol=1e-4, atol=1e-5)


def test_changed_future_changes_nothing_in_training_either(model: nn.Module) -> None:
    context = make_context([20, 20])
    changed = replace(
        context, items=context.items.clone(), timestamps=context.timestamps.clone(), now=torch.tensor([5, 5])
    )
    changed.items[12:20] = (changed.items[12:20] + 1) % ITEMS
    changed.timestamps[12:20] += DAY
    results = []
    for variant in (context, changed):
        torch.manual_seed(7)
        results.append(model.states(variant).detach())
    torch.testing.assert_close(results[0][:12], results[1][:12])
    assert not torch.allclose(results[0][12:20], results[1][12:20])


def test_states_do_not_depend_on_the_rest_of_the_batch(model: nn.Module) -> None:
    model.eval()
    context = make_context([3, 0, 30, 1, 17, 17, 2])
    with torch.no_grad():
        together = model.states(context)
        for row in range(context.batch_size):
            start, end = context.offsets[row : row + 2].tolist()
            alone = model.states(single(context, row))
            torch.testing.assert_close(alone, together[start:end], rtol=1e-4, atol=1e-5)


def test_training_and_evaluation_compute_the_same_without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    context = make_context([3, 0, 30, 1])
    training = model.states(context).detach()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.states(context), training, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns(model: nn.Module) -> None:
    context = make_context([5, 12, 2])
    targets = torch.randint(0, ITEMS, (len(context.items),))
    full_softmax(model.states(context), model.item_vectors(), targets).backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    zero = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    # A key's bias adds the same to all scores of a query, so its gradient is zero up to rounding.
    assert untouched == [] and zero == []


def test_mixed_precision_stays_near_single_precision(model: nn.Module) -> None:
    model.eval()
    context = make_context([5, 12, 2])
    targets = torch.randint(0, ITEMS, (len(context.items),))
    expected = full_softmax(model.states(context), model.item_vectors(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(model.states(context), model.item_vectors(), targets)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.02)
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_learns_a_chain_of_items(model: nn.Module) -> None:
    torch.manual_seed(0)
    starts = torch.randint(0, ITEMS, (64, 1))
    items = (starts + torch.arange(9)) % ITEMS
    context = Context(
        torch.arange(64) % USERS, items[:, :-1].flatten(), torch.zeros(512, dtype=torch.int64), torch.arange(65) * 8
    )
    # States and items of length 1 need sharper scores.
    bounded = getattr(model, "similarity", "") == "cosine" or getattr(model, "output", "") == "unit_length"
    temperature = 0.1 if bounded else 1.0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = full_softmax(
            model.states(context), model.item_vectors(), items[:, 1:].flatten(), temperature=temperature
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_no_events_at_all(model: nn.Module) -> None:
    for lengths in ([], [0, 0]):
        assert model.states(make_context(lengths)).shape == (0, 16)


def test_vectors_of_some_items_are_rows_of_all(model: nn.Module) -> None:
    model.eval()
    items = torch.tensor([3, 3, 0, 39])
    torch.testing.assert_close(model.item_vectors(items), model.item_vectors()[items])


def test_too_long_history_is_refused(model: nn.Module) -> None:
    with pytest.raises(DataError, match="31 events"):
        model.states(make_context([31]))


def test_protocols(model: nn.Module) -> None:
    assert isinstance(model, NextItemModel)
    assert isinstance(InnerProductRetriever(model, torch.ones(ITEMS)), Retriever)


def test_retriever_ranks_by_inner_product_with_the_last_state(model: nn.Module) -> None:
    retriever = InnerProductRetriever(model, torch.rand(ITEMS))
    context = make_context([4, 50, 1])
    best = retriever.retrieve(context, 5)
    model.eval()
    with torch.no_grad():
        recent = context.last(LENGTH)
        scores = model.states(recent)[recent.offsets[1:] - 1] @ model.item_vectors().t()
    torch.testing.assert_close(best.scores, scores.topk(5).values)


def test_retriever_falls_back_to_popularity_without_history(model: nn.Module) -> None:
    popularity = torch.rand(ITEMS)
    retriever = InnerProductRetriever(model, popularity)
    context = make_context([0, 3, 0])
    best = retriever.retrieve(context, 6, exclude_seen=True)
    expected = popularity.topk(6)
    for row in (0, 2):
        assert torch.equal(best.items[row], expected.indices)
        torch.testing.assert_close(best.scores[row], expected.values)
    assert not set(best.items[1].tolist()) & set(context.items.tolist())


@pytest.mark.parametrize("lengths", [[0], [0, 0, 0], [0, 3, 0]])
def test_requests_without_history_in_the_layout_of_an_accelerator(
    model: nn.Module, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    popularity = torch.rand(ITEMS)
    context = make_context(lengths)
    items = torch.arange(4).expand(len(lengths), 4)
    usual = InnerProductRetriever(model, popularity)
    expected, scores = usual.retrieve(context, 5), usual.score(context, items)
    monkeypatch.setattr(PackedLayout, "bounded", PackedLayout.rectangle)
    retriever = InnerProductRetriever(model, popularity)
    found = retriever.retrieve(context, 5)
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(retriever.score(context, items), scores)


def test_retriever_leaves_the_training_mode_as_it_was(model: nn.Module) -> None:
    model.train()
    InnerProductRetriever(model, torch.ones(ITEMS)).retrieve(make_context([2]), 3)
    assert model.training


def test_retriever_keeps_to_the_candidates(model: nn.Module) -> None:
    candidates = torch.tensor([2, 5, 7])
    best = InnerProductRetriever(model, torch.ones(ITEMS)).retrieve(make_context([0, 3]), 5, candidates=candidates)
    for row in best.items.tolist():
        assert sorted(row[:3]) == [2, 5, 7]
        assert row[3:] == [-1, -1]
