"""Domain-specific adaptation: which terms the loss has, and that trimming and packing change none of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from counting_backend import CountingBackend
from mixed_domains import TRAINER

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import Windows
from recascade.models.post_norm_sasrec import PostNormSASRec
from recascade_taesar.adaptation import AdaptationData, AdaptationModule, successors


def some_model(data: EncodedSplit) -> PostNormSASRec:
    torch.manual_seed(1)
    return PostNormSASRec(len(data.items), dimension=16, heads=2, max_length=40, dropout=0.0)


def terms_by_hand(data: EncodedSplit, user: int, domain: int) -> list[tuple[int, int]]:
    """(place of the state, item that is to be predicted) of a user's training events."""
    assert data.item_domains is not None
    start, end = int(data.events.offsets[user]), int(data.train_ends[user])
    items = data.events.items[start:end]
    inside = [place for place, item in enumerate(items) if data.item_domains.codes[item] == domain]
    return [(place, int(items[after])) for place, after in pairwise(inside)]


@pytest.mark.parametrize("domain", [0, 1, 2])
@pytest.mark.parametrize("windows", ["last", "chunks"])
def test_each_event_of_the_domain_predicts_the_next_one(data: EncodedSplit, domain: int, windows: Windows) -> None:
    assert data.item_domains is not None
    batches = AdaptationData(data, TRAINER, domain=domain, following=successors(data), max_length=40, windows=windows)
    members = data.item_domains.members(data.item_domains.names[domain])
    expected = {user: terms_by_hand(data, user, domain) for user in range(len(data.users))}
    rows = batches.windows
    assert set(rows.users.tolist()) == {user for user, terms in expected.items() if terms}
    for row in range(len(rows.users)):
        batch = batches.training_batch(np.array([row]))
        found = list(zip(batch.positions.tolist(), members[batch.targets.numpy()].tolist(), strict=True))
        assert found == expected[int(rows.users[row])]
        assert rows.lengths[row] == found[-1][0] + 1


def test_the_packed_loss_is_that_of_whole_padded_rows(data: EncodedSplit) -> None:
    assert data.item_domains is not None
    domain = 1
    members = data.item_domains.members(data.item_domains.names[domain])
    model = some_model(data)
    module = AdaptationModule(model, data, torch.from_numpy(members), TRAINER)
    batches = AdaptationData(data, TRAINER, domain=domain, following=successors(data), max_length=40)
    batch = batches.training_batch(np.arange(len(batches.windows.users)))
    packed = module.training_step(batch, 0)
    packed.backward()  # type: ignore[no-untyped-call]
    gradient = model.item_embedding.grad
    assert gradient is not None
    other = some_model(data)
    losses = []
    for user in batches.windows.users.tolist():
        start, end = int(data.events.offsets[user]), int(data.train_ends[user])
        tokens = torch.from_numpy(data.events.items[start:end].astype(np.int64))
        context = Context(torch.tensor([user]), tokens, torch.zeros_like(tokens), torch.tensor([0, end - start]))
        logits = other.states(context) @ other.item_embedding[members].t()
        for place, item in terms_by_hand(data, user, domain):
            target = torch.tensor(int(np.flatnonzero(members == item)[0]))
            losses.append(torch.nn.functional.cross_entropy(logits[place], target))
    padded = torch.stack(losses).mean()
    padded.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, other.item_embedding.grad, atol=1e-5, rtol=1e-4)


def test_the_compiler_sees_the_steps_of_an_expert_and_changes_nothing(data: EncodedSplit) -> None:
    assert data.item_domains is not None
    members = torch.from_numpy(data.item_domains.members(data.item_domains.names[1]))
    batches = AdaptationData(data, TRAINER, domain=1, following=successors(data), max_length=40)
    backend = CountingBackend()
    compiling = replace(TRAINER, compile=True, compile_backend=backend)  # type: ignore[arg-type]
    plain, compiled = (AdaptationModule(some_model(data), data, members, each) for each in (TRAINER, compiling))
    for rows in (6, 9):
        batch = batches.training_batch(np.arange(rows))
        torch.testing.assert_close(compiled.training_step(batch, 0), plain.training_step(batch, 0))
    assert backend.graphs > 0


def test_an_expert_is_not_validated_where_it_trains_all_epochs(data: EncodedSplit) -> None:
    for patience, validated in ((0, False), (2, True)):
        settings = replace(TRAINER, patience=patience)
        batches = AdaptationData(data, settings, domain=0, following=successors(data), max_length=40)
        assert bool(batches.val_dataloader()) == validated
