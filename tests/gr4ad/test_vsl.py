"""Value-aware supervised learning: buckets, weights, the losses and the order by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lazy_decoders import BUCKETS, SIZES, decoder, item_codes, requests_of

from recascade.contracts.generator import Beams
from recascade.errors import DataError
from recascade.nn.beam_search import FoundIds, beam_search
from recascade.nn.prefix_trie import PrefixTrie
from recascade_gr4ad.value_buckets import ValueBuckets, rerank_by_value
from recascade_gr4ad.value_reranker import ValueReranker
from recascade_gr4ad.vsl import next_token_loss, step_losses, user_weights, value_aware_loss


@given(st.integers(2, 40), st.integers(0, 300), st.integers(0, 5))
def test_buckets_are_equally_filled(buckets: int, more: int, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=buckets + more)
    counts = np.bincount(ValueBuckets.fit(values, buckets).of(values), minlength=buckets)
    assert counts.max() - counts.min() <= 1


def test_buckets_know_their_means_and_unknown_values() -> None:
    values = np.array([4.0, 1.0, 2.0, 3.0])
    buckets = ValueBuckets.fit(values, 2)
    assert buckets.means.tolist() == [1.5, 3.5]
    assert buckets.of(np.array([0.0, 2.9, 3.0, 99.0, np.nan])).tolist() == [0, 0, 1, 1, -1]
    assert buckets.grades(values, 4.0).tolist() == [4.0, 0.0, 0.0, 4.0]


def test_many_equal_values_leave_no_bucket_without_a_mean() -> None:
    buckets = ValueBuckets.fit(np.array([0.0] * 50 + [1.0, 2.0]), 4)
    assert np.isfinite(buckets.means).all() and (np.diff(buckets.means) >= 0).all()
    assert buckets.means[buckets.of(np.array([0.0]))[0]] == pytest.approx(3 / 52)


@pytest.mark.parametrize(("values", "match"), [([1.0, -2.0, 3.0], "negative"), ([1.0, np.nan, 3.0], "not a number")])
def test_impossible_values_are_named(values: list[float], match: str) -> None:
    with pytest.raises(DataError, match=match):
        ValueBuckets.fit(np.array(values), 2)


def test_too_few_values_for_the_buckets() -> None:
    with pytest.raises(DataError, match="3 values for 4 buckets"):
        ValueBuckets.fit(np.ones(3), 4)


def found_ids() -> tuple[FoundIds, torch.Tensor]:
    model = decoder()
    with torch.no_grad():
        state = model.encode(requests_of([5, 1, 12, 8]))
        found = beam_search(model, state, PrefixTrie.build(item_codes(), SIZES), (4, 8, 60))
        return found, model.step(state, Beams(found.codes.clamp(min=0), found.parents))


def test_without_gamma_the_order_is_that_of_the_search() -> None:
    found, log_probs = found_ids()
    assert rerank_by_value(found, log_probs, torch.ones(BUCKETS), 0.0) is found
    # Equal values of all buckets change scores, but not their order.
    equal = rerank_by_value(found, log_probs, torch.full((BUCKETS,), 7.0), 0.5)
    assert torch.equal(equal.codes, found.codes)


def test_value_decides_as_gamma_grows_and_empty_places_stay_last() -> None:
    found, log_probs = found_ids()
    means = torch.tensor([0.0, 1.0, 10.0, 100.0])
    there = found.leaves >= 0
    assert not there.all()
    best = rerank_by_value(found, log_probs, means, 50.0)
    for row in range(4):
        count = int(there[row].sum())
        expected = (log_probs[row, :count].exp() @ means.double()).log() * 50 + found.log_probs[row, :count]
        order = expected.argsort(descending=True)
        assert torch.equal(best.codes[row, :count], found.codes[row, order])
        torch.testing.assert_close(best.log_probs[row, :count], expected[order])
        assert (best.leaves[row, count:] == -1).all()
        assert (best.log_probs[row, count:] == -torch.inf).all()


def test_the_reranker_goes_on_from_the_search() -> None:
    """Its one step gives what a pass over whole ids gives."""
    model = decoder()
    buckets = ValueBuckets(np.arange(3.0), np.array([1.0, 2.0, 4.0, 8.0]))
    reranker = ValueReranker(model, buckets, 1.0)
    with torch.no_grad():
        state = model.encode(requests_of([5, 1, 12, 8]))
        found = beam_search(model, state, PrefixTrie.build(item_codes(), SIZES), (4, 8, 20))
        there = found.leaves >= 0
        states = model._next_token_states(state, found.codes.clamp(min=0), 4)
        whole = (states[:, :, 3] @ model.output_vectors(3).t()).log_softmax(-1)
        torch.testing.assert_close(reranker.bucket_log_probs(state, found)[there], whole[there], atol=1e-12, rtol=0)


def test_losses_by_hand() -> None:
    logits = [torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]] * 2)]
    losses = step_losses(logits, [torch.tensor([1, 0]), torch.tensor([2, -1])])
    expected = -logits[0].log_softmax(-1)[[0, 1], [1, 0]]
    torch.testing.assert_close(losses[:, 0], expected)
    assert losses[1, 1] == 0
    torch.testing.assert_close(losses[0, 1], -logits[1].log_softmax(-1)[0, 2])
    torch.testing.assert_close(next_token_loss(losses, 1, 0.5), losses[:, 0] + 0.5 * losses[:, 1])
    torch.testing.assert_close(next_token_loss(losses, 2, 0.5), losses.sum(1))


def test_scaling_all_weights_scales_the_loss() -> None:
    next_token, multi_token, weights = torch.rand(3, 9).unbind(0)
    loss = value_aware_loss(next_token, multi_token, weights, 0.1)
    torch.testing.assert_close(value_aware_loss(next_token, multi_token, 3 * weights, 0.1), 3 * loss)


def test_users_weigh_by_their_value_within_bounds() -> None:
    weights = user_weights(torch.tensor([0.0, 1.0, 10.0, 1e6, 0.0]))
    assert (weights.diff()[:3] > 0).all() and weights[0] == weights[4]
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() <= 4
    assert (user_weights(torch.zeros(3)) == 1).all()
    with pytest.raises(DataError, match="negative or not a number"):
        user_weights(torch.tensor([1.0, float("nan")]))
