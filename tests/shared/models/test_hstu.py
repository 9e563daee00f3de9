from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm, linear, silu

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.hstu import HSTU

ITEMS = 30


def make_context(length: int) -> Context:
    return Context(
        torch.zeros(1).long(),
        torch.randint(0, ITEMS, (length,)),
        torch.randint(0, 10**6, (length,)).sort().values,
        torch.tensor([0, length]),
    )


def test_equations_one_to_three() -> None:
    torch.manual_seed(0)
    model = HSTU(ITEMS, 8, blocks=1, heads=1, max_length=20, attention_dimension=6, value_dimension=5).eval()
    context = make_context(11)
    layer = model.blocks[0]
    with torch.no_grad():
        inputs = model.item_embedding[context.items] * 8**0.5 + model.position_embedding[:11]
        normed = layer_norm(inputs, (8,), layer.norm.weight, layer.norm.bias, 1e-6)
        gate, value, query, key = silu(linear(normed, layer.project.weight)).split([5, 5, 6, 6], dim=1)
        steps = torch.arange(11)
        passed = (context.timestamps[:, None] - context.timestamps).clamp(min=1).float().log() / 0.301
        bias = layer.position_bias[(steps[:, None] - steps).clamp(min=0)] + layer.time_bias[passed.long()]
        attended = silu(query @ key.t() + bias).tril() @ value / 20
        gated = gate * layer_norm(attended, (5,), eps=1e-6)
        expected = model.final_norm(inputs + linear(gated, layer.output.weight, layer.output.bias))
        torch.testing.assert_close(model.states(context), expected)


def test_time_matters_only_with_time_buckets() -> None:
    torch.manual_seed(0)
    context = make_context(11)
    later = Context(context.users, context.items, context.timestamps * 50, context.offsets)
    for buckets, same in ((0, True), (64, False)):
        model = HSTU(ITEMS, 8, max_length=20, time_buckets=buckets).eval()
        with torch.no_grad():
            for layer in model.blocks:
                if layer.time_bias is not None:
                    layer.time_bias.normal_()
            assert torch.allclose(model.states(context), model.states(later), atol=1e-7) is same


def test_unit_length_output() -> None:
    model = HSTU(ITEMS, 8, max_length=20, output="unit_length").eval()
    for vectors in (model.states(make_context(7)), model.item_vectors()):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_heads_must_divide_the_dimension() -> None:
    with pytest.raises(ConfigurationError, match="heads=3"):
        HSTU(ITEMS, 8, heads=3)
