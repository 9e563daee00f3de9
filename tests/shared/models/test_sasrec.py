from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError, DataError
from recascade.models.sasrec import SASRec


def make_context(lengths: list[int], items: int = 50) -> Context:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events = int(offsets[-1])
    return Context(torch.arange(len(lengths)), torch.randint(0, items, (events,)), torch.zeros(events).long(), offsets)


def release_by_hand(model: SASRec, items: Tensor) -> Tensor:
    """One sequence through the layers in the order of the authors' release, with one head."""

    def norm(values: Tensor, module: torch.nn.LayerNorm) -> Tensor:
        return layer_norm(values, values.shape[1:], module.weight, module.bias)

    stream = model.item_embedding[items] * model.item_embedding.shape[1] ** 0.5
    stream = stream + model.position_embedding[: len(items)]
    for block in model.blocks:
        query = norm(stream, block.attention_norm)
        key, value = linear(stream, block.key_value.weight, block.key_value.bias).chunk(2, dim=1)
        projected = linear(query, block.query.weight, block.query.bias)
        attended = scaled_dot_product_attention(projected[None], key[None], value[None], is_causal=True)[0]
        attended = linear(attended, block.output.weight, block.output.bias)
        stream = norm(query + attended, block.feed_forward_norm)
        hidden = linear(stream, block.expand.weight, block.expand.bias).relu()
        stream = stream + linear(hidden, block.contract.weight, block.contract.bias)
    return norm(stream, model.final_norm)


def test_layers_in_the_order_of_the_release() -> None:
    torch.manual_seed(0)
    model = SASRec(50, 8, blocks=2, heads=1, max_length=12).eval()
    context = make_context([9])
    with torch.no_grad():
        torch.testing.assert_close(model.states(context), release_by_hand(model, context.items))


def test_positions_from_the_end_give_the_newest_event_the_last_position() -> None:
    torch.manual_seed(0)
    model = SASRec(50, 8, max_length=12, positions="from_end").eval()
    model.blocks = torch.nn.ModuleList()
    context = make_context([3, 12])
    with torch.no_grad():
        inputs = model.item_embedding[context.items] * 8**0.5
        places = torch.cat([torch.arange(9, 12), torch.arange(12)])
        torch.testing.assert_close(model.states(context), model.final_norm(inputs + model.position_embedding[places]))


@pytest.mark.parametrize("order", ["release", "pre_norm"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_newest_states_are_rows_of_all_states(order: str, blocks: int) -> None:
    torch.manual_seed(0)
    model = SASRec(50, 16, blocks=blocks, heads=2, max_length=60, order=order, positions="from_end").eval()
    context = make_context([3, 0, 60, 1, 17, 0] + [5] * 40)
    with torch.no_grad():
        newest, states = model.newest_states(context), model.states(context)
    known = context.lengths > 0
    torch.testing.assert_close(newest[known], states[context.offsets[1:][known] - 1], rtol=1e-4, atol=1e-5)
    assert not newest[~known].any()
    assert not model.newest_states(make_context([0, 0])).any()


@pytest.mark.parametrize("order", ["release", "pre_norm"])
def test_cached_states_equal_those_of_the_whole_history(order: str) -> None:
    torch.manual_seed(0)
    model = SASRec(50, 16, blocks=2, heads=2, max_length=40, order=order).eval()
    context = make_context([30, 12, 17])
    with torch.no_grad():
        whole = model.states(context)
    caches = model.new_cache(3)
    read = [0, 0, 0]
    for sizes in ([25, 0, 16], [1, 1, 1], [4, 11, 0]):
        chosen = torch.cat(
            [torch.arange(int(s) + r, int(s) + r + n) for s, r, n in zip(context.offsets, read, sizes, strict=False)]
        )
        piece = Context(
            context.users, context.items[chosen], context.timestamps[chosen], torch.tensor([0, *sizes]).cumsum(0)
        )
        torch.testing.assert_close(model.extend(piece, caches), whole[chosen], rtol=1e-5, atol=1e-5)
        read = [before + size for before, size in zip(read, sizes, strict=True)]


def test_cache_refuses_more_than_max_length() -> None:
    model = SASRec(50, 8, max_length=5).eval()
    caches = model.new_cache(1)
    model.extend(make_context([4]), caches)
    with pytest.raises(DataError, match="6 events"):
        model.extend(make_context([2]), caches)


def test_cache_needs_positions_from_the_start() -> None:
    model = SASRec(50, 8, max_length=5, positions="from_end").eval()
    with pytest.raises(ConfigurationError, match="from_start"):
        model.extend(make_context([2]), model.new_cache(1))


def test_heads_must_divide_the_dimension() -> None:
    with pytest.raises(ConfigurationError, match="heads=3"):
        SASRec(50, 8, heads=3)
