"""The post-norm block against PyTorch's own encoder layer, and its packed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from recascade.errors import ConfigurationError
from recascade.nn.packed import PackedLayout
from recascade.nn.post_norm_block import PostNormBlock


def reference(block: PostNormBlock, dimension: int, heads: int) -> nn.TransformerEncoderLayer:
    """PyTorch's post-norm layer with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        dimension, heads, dimension, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    )
    pairs = {
        layer.self_attn.in_proj_weight: block.projections.weight,
        layer.self_attn.in_proj_bias: block.projections.bias,
        layer.self_attn.out_proj.weight: block.output.weight,
        layer.self_attn.out_proj.bias: block.output.bias,
        layer.linear1.weight: block.expand.weight,
        layer.linear1.bias: block.expand.bias,
        layer.linear2.weight: block.contract.weight,
        layer.linear2.bias: block.contract.bias,
    }
    with torch.no_grad():
        for theirs, ours in pairs.items():
            theirs.copy_(ours)
    return layer


def packed(lengths: list[int], dimension: int) -> tuple[Tensor, PackedLayout]:
    torch.manual_seed(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return torch.randn(sum(lengths), dimension), PackedLayout.of(offsets)


def test_the_block_is_a_post_norm_encoder_layer() -> None:
    torch.manual_seed(1)
    block = PostNormBlock(8, 2, 0.0, 8)
    nn.init.normal_(block.projections.weight)
    layer = reference(block, 8, 2)
    events, layout = packed([5, 1, 7], 8)
    result = block(events, layout)
    for start, end in zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), strict=True):
        mask = nn.Transformer.generate_square_subsequent_mask(end - start)
        expected = layer(events[None, start:end], src_mask=mask)[0]
        torch.testing.assert_close(result[start:end], expected, atol=1e-5, rtol=1e-4)


def test_some_rows_are_those_rows_of_all() -> None:
    block = PostNormBlock(8, 2, 0.5, 16).eval()
    events, layout = packed([4, 6], 8)
    rows = torch.tensor([9, 0, 5])
    torch.testing.assert_close(block(events, layout, rows), block(events, layout)[rows])


def test_later_events_change_nothing() -> None:
    block = PostNormBlock(8, 2, 0.0, 8)
    events, layout = packed([6], 8)
    changed = events.clone()
    changed[4:] += 1.0
    torch.testing.assert_close(block(changed, layout)[:4], block(events, layout)[:4])


def test_dropout_is_for_training_alone() -> None:
    block = PostNormBlock(8, 2, 0.5, 8)
    events, layout = packed([6], 8)
    assert not torch.equal(block(events, layout), block(events, layout))
    block.eval()
    assert torch.equal(block(events, layout), block(events, layout))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigurationError, match="heads=3 does not divide dimension=8"):
        PostNormBlock(8, 3, 0.0, 8)
