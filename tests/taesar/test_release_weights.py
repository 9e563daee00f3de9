"""Weights in the release's layout decode to the rows of a direct double-precision reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from release_decoder import released_place
from torch import Tensor

from recascade.data.encoded import EncodedSplit
from recascade.data.item_domains import ItemDomains
from recascade.data.next_item import training_windows
from recascade.errors import DataError
from recascade_taesar.blocks import DomainBlocks
from recascade_taesar.config import DecodingConfig
from recascade_taesar.decoding import ContrastiveDecoder
from recascade_taesar.models import RegenerationModels
from recascade_taesar.places import decode_windows
from recascade_taesar.release_weights import read_release_weights

WIDTH, HEADS, LAYERS, LENGTH = 16, 2, 2, 20
PARITY = DecodingConfig(id_shift=1, local_argmax="all")


def release_state(items: int, seed: int) -> dict[str, Tensor]:
    """Random weights under RecBole's names, large enough for decided logits."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 0.35 * torch.randn(*shape, generator=generator)

    state = {
        "item_embedding.weight": 1.5 * drawn(items + 1, WIDTH),
        "position_embedding.weight": drawn(LENGTH, WIDTH),
        "LayerNorm.weight": 1 + drawn(WIDTH),
        "LayerNorm.bias": drawn(WIDTH),
    }
    for layer in range(LAYERS):
        for part, names in {
            "multi_head_attention": ("query", "key", "value", "dense"),
            "feed_forward": ("dense_1", "dense_2"),
        }.items():
            prefix = f"trm_encoder.layer.{layer}.{part}"
            for name in names:
                state[f"{prefix}.{name}.weight"] = drawn(WIDTH, WIDTH)
                state[f"{prefix}.{name}.bias"] = drawn(WIDTH)
            state[f"{prefix}.LayerNorm.weight"] = 1 + drawn(WIDTH)
            state[f"{prefix}.LayerNorm.bias"] = drawn(WIDTH)
    return state


def reference_logits(state: dict[str, Tensor], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[n, V + 1]``, logits of one sequence of release ids, as RecBole computes them, in double precision."""
    s = {name: tensor.double() for name, tensor in state.items()}

    def linear(values: Tensor, name: str) -> Tensor:
        return values @ s[f"{name}.weight"].t() + s[f"{name}.bias"]

    def norm(values: Tensor, name: str) -> Tensor:
        return torch.nn.functional.layer_norm(values, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-12)

    count = len(tokens)
    hidden = norm(s["item_embedding.weight"][tokens] + s["position_embedding.weight"][:count], "LayerNorm")
    future = torch.full((count, count), -10000.0, dtype=torch.float64).triu(1)
    for layer in range(LAYERS):
        attention, forward = (f"trm_encoder.layer.{layer}.{part}" for part in ("multi_head_attention", "feed_forward"))
        q, k, v = (
            linear(hidden, f"{attention}.{name}").view(count, HEADS, -1).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        weights = (q @ k.transpose(1, 2) / (WIDTH / HEADS) ** 0.5 + future).softmax(-1)
        joined = (weights @ v).transpose(0, 1).reshape(count, WIDTH)
        hidden = norm(linear(joined, f"{attention}.dense") + hidden, f"{attention}.LayerNorm")
        inner = torch.nn.functional.gelu(linear(hidden, f"{forward}.dense_1"))
        hidden = norm(linear(inner, f"{forward}.dense_2") + hidden, f"{forward}.LayerNorm")
    logits: NDArray[np.float64] = (hidden @ s["item_embedding.weight"].t()).numpy()
    return logits


@pytest.mark.parametrize("target", [0, 1, 2])
def test_rows_agree_with_the_reference(data: EncodedSplit, target: int) -> None:
    domains = data.item_domains
    assert domains is not None
    blocks = DomainBlocks.of(domains)
    states = [release_state(len(data.items), seed) for seed in range(4)]
    read = [read_release_weights(state, blocks, HEADS) for state in states]
    models = RegenerationModels(read[0][0], [model for model, _ in read[1:]])
    padded = blocks.with_padding()
    decoder = ContrastiveDecoder(read[0][1], [table for _, table in read[1:]], padded, PARITY)
    windows = training_windows(data, LENGTH)
    events = len(data.events.items)
    found = decode_windows(data, windows, models, decoder, [target], 0, events)[target].items

    release_id = np.empty(len(data.items), dtype=np.int64)
    release_id[blocks.order] = np.arange(len(data.items)) + 1
    block = padded.block(target)
    agreeing = []
    for user in range(len(data.users)):
        start, end = int(data.events.offsets[user]), int(data.train_ends[user])
        tokens = release_id[data.events.items[start:end]]
        logits = [reference_logits(state, tokens) for state in states]
        expected, mine = [], []
        for place in range(1, len(tokens)):
            source = int(domains.codes[data.events.items[start + place]])
            if source == target:
                continue
            before = place - 1
            column, gap = released_place(
                logits[1 + target][before].copy(),
                logits[0][before],
                logits[1 + source][before],
                block.start,
                block.stop,
                shift=1,
                everywhere=True,
            )
            inside = block.start <= column < block.stop
            expected.append(int(padded.order[column]) if inside else -1)
            mine.append(int(found[start + place]))
            assert gap < 1e-4 or mine[-1] == expected[-1]
        agreeing.append(mine == expected)
    assert np.mean(agreeing) >= 0.999
    assert (found >= 0).any()
    assert isinstance(domains, ItemDomains)


def test_weights_of_other_data_or_another_model_are_refused(data: EncodedSplit) -> None:
    assert data.item_domains is not None
    blocks = DomainBlocks.of(data.item_domains)
    with pytest.raises(DataError, match="The weights know 9 items"):
        read_release_weights(release_state(9, 0), blocks)
    state = release_state(len(data.items), 0)
    del state["LayerNorm.bias"]
    with pytest.raises(DataError, match=r"no tensor 'LayerNorm.bias'"):
        read_release_weights(state, blocks)
