"""Random views of sequences: how much they keep, and that sequences do not mix."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.nn.sequence_views import crop, mask, reorder

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)
SHARES = st.floats(0.05, 0.95)


@settings(max_examples=50)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 1000))
def test_a_crop_keeps_one_stretch_of_each_sequence(lengths: list[int], share: float, seed: int) -> None:
    torch.manual_seed(seed)
    for length, kept in zip(lengths, torch.split(crop(torch.tensor(lengths), share), lengths), strict=True):
        places = kept.nonzero()[:, 0]
        assert len(places) == max(1, int(torch.tensor(length) * share))
        assert int(places[-1] - places[0]) == len(places) - 1


@settings(max_examples=50)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 1000))
def test_a_mask_hides_its_share_of_each_sequence(lengths: list[int], share: float, seed: int) -> None:
    torch.manual_seed(seed)
    for length, hidden in zip(lengths, torch.split(mask(torch.tensor(lengths), share), lengths), strict=True):
        assert int(hidden.sum()) == int(torch.tensor(length) * share)


@settings(max_examples=50)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 1000))
def test_reordering_moves_one_stretch_within_each_sequence(lengths: list[int], share: float, seed: int) -> None:
    torch.manual_seed(seed)
    start = 0
    for length, source in zip(lengths, torch.split(reorder(torch.tensor(lengths), share), lengths), strict=True):
        places = torch.arange(start, start + length)
        assert torch.equal(source.sort().values, places)
        moved = (source != places).nonzero()[:, 0]
        assert not len(moved) or int(moved[-1] - moved[0]) < max(1, int(torch.tensor(length) * share))
        start += length


def test_every_place_is_chosen_sometimes() -> None:
    torch.manual_seed(0)
    lengths = torch.full((400,), 6)
    for chosen in (crop(lengths, 0.5), mask(lengths, 0.34), reorder(lengths, 0.6) != torch.arange(2400)):
        assert (chosen.view(400, 6).float().mean(0) > 0.1).all()
