from __future__ import annotations

import pytest
import torch

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.transformer_tower import TransformerTower
from recascade.nn.packed import PackedLayout


def history(items: list[int]) -> Context:
    return Context(
        torch.tensor([-1]), torch.tensor(items).long(), torch.zeros(len(items)).long(), torch.tensor([0, len(items)])
    )


def make(**options) -> TransformerTower:
    torch.manual_seed(0)
    return TransformerTower(9, 8, (6,), recent=4, initial_deviation=1.0, **options).eval()


def user(model: TransformerTower, items: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.user_vectors(history(items))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_order_of_events_matters(blocks) -> None:
    model = make(blocks=blocks)
    assert not torch.allclose(user(model, [1, 2, 3]), user(model, [2, 1, 3]))


def test_positions_count_from_the_newest_event() -> None:
    model = make()
    with torch.no_grad():
        model.position_embedding[3:] += 5
        before = user(model, [1, 2, 3])
        model.position_embedding[3:] -= 5
        assert torch.equal(user(model, [1, 2, 3]), before)
        model.position_embedding[0, 0] += 5
        assert not torch.allclose(user(model, [1, 2, 3]), before)


def test_only_the_newest_state_is_computed_as_the_whole_block_gives_it() -> None:
    model = make(blocks=2)
    context = history([5, 1, 2, 3])
    with torch.no_grad():
        layout = PackedLayout.of(context.offsets)
        events = model.item_inputs(context.items) + model.position_embedding.flip(0)
        for block in model.blocks:
            events = block(events, layout)
        state = model.final_norm(events)[-1:]
        expected = torch.nn.functional.normalize(model.user_tower(state), dim=1)
        torch.testing.assert_close(model.user_vectors(context), expected, atol=1e-6, rtol=1e-5)


def test_no_history_is_a_state_of_zeros() -> None:
    model = make(similarity="inner_product")
    with torch.no_grad():
        torch.testing.assert_close(user(model, []), model.user_tower(torch.zeros(1, 16)))


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="recent=0"):
        TransformerTower(9, recent=0)
    with pytest.raises(ConfigurationError, match="blocks=0"):
        TransformerTower(9, blocks=0)
    with pytest.raises(ConfigurationError, match="heads=3"):
        TransformerTower(9, heads=3)
    with pytest.raises(ConfigurationError, match="reads nothing"):
        TransformerTower(9, item_identity=False)
