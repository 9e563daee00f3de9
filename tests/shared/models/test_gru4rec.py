from __future__ import annotations

import torch

from recascade.contracts.context import Context
from recascade.models.gru4rec import GRU4Rec


def test_states_are_those_of_the_recurrence() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(30, 8, hidden=6).eval()
    context = Context(
        torch.zeros(2).long(), torch.randint(0, 30, (12,)), torch.zeros(12).long(), torch.tensor([0, 5, 12])
    )
    with torch.no_grad():
        for start, end in ((0, 5), (5, 12)):
            hidden, _ = model.gru(model.item_embedding[context.items[start:end]])
            torch.testing.assert_close(model.states(context)[start:end], model.project(hidden))


def test_constrained_embedding_is_shared() -> None:
    model = GRU4Rec(30, 8)
    assert model.item_vectors() is model.item_embedding
    own = GRU4Rec(30, 8, constrained=False)
    assert not torch.equal(own.item_vectors(), own.item_embedding)
    assert sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in model.parameters()) == 30 * 8
