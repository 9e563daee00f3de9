"""Attention in tiles is the equation, whatever the tiles and the pieces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from recascade_relaygr.ranker.attention import Piece, attend_causally, attend_from_candidates

HEADS, KEY, VALUE = 2, 4, 6


def draw(tokens: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(HEADS, tokens, width, generator=generator, dtype=torch.float64)


def history(lengths: list[int], generator: torch.Generator) -> list[Piece]:
    return [(draw(length, KEY, generator), draw(length, VALUE, generator)) for length in lengths]


def joined(pieces: list[Piece]) -> Piece:
    return torch.cat([keys for keys, _ in pieces], 1), torch.cat([values for _, values in pieces], 1)


LENGTHS = st.one_of(st.integers(0, 300), st.sampled_from([1, 127, 128, 129, 512, 513, 1100]))


@settings(max_examples=30)
@given(st.lists(LENGTHS, max_size=3), LENGTHS, st.integers(0, 3))
def test_events_gather_what_the_equation_says(past: list[int], new: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    *pieces, own = everything = history([*past, new], generator)
    query, bias = draw(new, KEY, generator), torch.randn(5000, generator=generator, dtype=torch.float64)
    keys, values = joined(everything)
    positions = torch.arange(keys.shape[1])
    distances = positions[sum(past) :, None] - positions
    weights = silu(query @ keys.transpose(1, 2) + bias[distances.clamp(min=0)]) * (distances >= 0)
    found = attend_causally(query, pieces, own, bias)
    assert torch.allclose(found, weights @ values, rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(st.lists(LENGTHS, max_size=3), st.one_of(st.integers(1, 40), st.just(300)), st.integers(0, 3))
def test_candidates_gather_what_the_equation_says(lengths: list[int], candidates: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pieces = history(lengths, generator)
    query = draw(candidates, KEY, generator)
    bias = torch.randn(sum(lengths), generator=generator, dtype=torch.float64)
    found = attend_from_candidates(query, pieces, bias)
    if lengths:
        keys, values = joined(pieces)
        assert torch.allclose(found, silu(query @ keys.transpose(1, 2) + bias) @ values, rtol=0, atol=1e-10)
    else:
        assert not found.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_an_event_may_not_see_leaves_no_trace_in_any_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (draw(200, width, generator).to(dtype) for width in (KEY, KEY, VALUE))
    bias = torch.randn(200, generator=generator).to(dtype)
    before = attend_causally(query, [], (keys, values), bias)
    values[:, 150:] = 1e4
    keys[:, 150:] *= -30
    after = attend_causally(query, [], (keys, values), bias)
    assert torch.equal(before[:, :150], after[:, :150]) and not torch.equal(before[:, 150:], after[:, 150:])
