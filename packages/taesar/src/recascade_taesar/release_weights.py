"""Weights in the layout of the released code (RecBole 1.2's SASRec), for decoding with them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recascade.errors import DataError
from recascade.models.post_norm_sasrec import PostNormSASRec
from recascade_taesar.blocks import DomainBlocks

_BLOCK = {
    "attention_norm": "multi_head_attention.LayerNorm",
    "output": "multi_head_attention.dense",
    "expand": "feed_forward.dense_1",
    "contract": "feed_forward.dense_2",
    "feed_forward_norm": "feed_forward.LayerNorm",
}


def read_release_weights(
    state: Mapping[str, Tensor], blocks: DomainBlocks, heads: int = 2
) -> tuple[PostNormSASRec, Tensor]:
    """A model with a release's weights, and the matrix that its logits are taken with.

    The release stores whole configuration objects beside the weights, which a safe reader refuses: save the
    ``state_dict`` alone.

    Args:
        state: names and tensors of RecBole's SASRec; row 0 of ``item_embedding.weight`` is the padding id, row i + 1
            the item of column i of ``blocks``.
        blocks: order of the items, without the padding column.
        heads: attention heads, which the weights do not tell; 2 in the release.

    Returns:
        The model in evaluation mode, and ``[C + 1, d]`` for ``blocks.with_padding()``: in the release the padding id is
        scored like an item.

    Raises:
        DataError: a tensor is missing, or the number of items differs.
    """
    try:
        table = state["item_embedding.weight"]
        items, dimension = len(table) - 1, table.shape[1]
        if items != len(blocks.order):
            raise DataError(
                f"The weights know {items:,} items and the data {len(blocks.order):,}; decode the data that they were "
                "trained on."
            )
        layers = len({name.split(".")[2] for name in state if name.startswith("trm_encoder.layer.")})
        hidden = len(state["trm_encoder.layer.0.feed_forward.dense_1.bias"])
        positions = state["position_embedding.weight"]
        model = PostNormSASRec(items, dimension, layers, heads, len(positions), 0.0, hidden)
        own = {"position_embedding": positions, "item_embedding": torch.empty_like(table[1:])}
        own["item_embedding"][torch.from_numpy(blocks.order)] = table[1:]
        own |= {f"input_norm.{kind}": state[f"LayerNorm.{kind}"] for kind in ("weight", "bias")}
        for layer in range(layers):
            theirs = f"trm_encoder.layer.{layer}."
            for kind in ("weight", "bias"):
                for ours, name in _BLOCK.items():
                    own[f"blocks.{layer}.{ours}.{kind}"] = state[f"{theirs}{name}.{kind}"]
                parts = [state[f"{theirs}multi_head_attention.{name}.{kind}"] for name in ("query", "key", "value")]
                own[f"blocks.{layer}.projections.{kind}"] = torch.cat(parts)
    except KeyError as error:
        raise DataError(
            f"The weights have no tensor {error}; they must be the state_dict of RecBole's SASRec."
        ) from error
    model.load_state_dict(own)
    return model.eval(), table
