from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.errors import ConfigurationError
from recascade.training.negatives import NegativeSampler


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=25)
def test_items_are_drawn_as_often_as_log_q_says(counts, exponent) -> None:
    sampler = NegativeSampler(torch.tensor(counts), exponent)
    torch.manual_seed(0)
    drawn = sampler.draw((400, 50))
    shares = torch.bincount(drawn.flatten(), minlength=len(counts)) / drawn.numel()
    expected = torch.tensor(counts).double() ** exponent
    expected = (expected / expected.sum()).float()
    torch.testing.assert_close(sampler.log_q.exp(), expected)
    # Four standard errors of a share of 20,000 draws.
    assert (shares - expected).abs().max() < 4 * 0.5 / 20_000**0.5
    if exponent:
        assert not shares[torch.tensor(counts) == 0].any()


def test_draws_follow_the_generator() -> None:
    sampler = NegativeSampler(torch.tensor([1, 2, 3]), 1.0)
    torch.manual_seed(7)
    first = sampler.draw((50,))
    assert not sampler.draw((50,)).equal(first)
    torch.manual_seed(7)
    assert sampler.draw((50,)).equal(first)


def test_large_catalogues_are_drawn_to_the_end() -> None:
    sampler = NegativeSampler(torch.ones(2_000_000), 1.0)
    torch.manual_seed(0)
    drawn = sampler.draw((200_000,))
    assert drawn.max() > 1_999_000
    assert drawn.unique().numel() > 180_000


def test_negative_exponent_of_items_without_events_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="gives no distribution"):
        NegativeSampler(torch.tensor([0, 1]), -1.0)


def test_sampler_adds_nothing_to_a_checkpoint() -> None:
    assert not NegativeSampler(torch.tensor([1, 2])).state_dict()
