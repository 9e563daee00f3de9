from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.batching import batch_count, plan_batches
from recascade.errors import ConfigurationError, DataError


@st.composite
def plans(draw):
    """Lengths and settings that ``plan_batches`` accepts, with room for the budgets (two sequences per process)."""
    world_size = draw(st.integers(1, 4))
    lengths = np.array(draw(st.lists(st.integers(1, 50), min_size=2 * world_size, max_size=300)), dtype=np.int64)
    tokens = draw(st.sampled_from([0, 2 * int(lengths.max()), 3 * int(lengths.max()) + 1, 10_000]))
    return lengths, {
        "batch_sequences": draw(st.integers(2, 40)),
        "batch_tokens": tokens,
        "bucket": draw(st.integers(1, 10)),
        "seed": draw(st.integers(0, 2**31)),
        "epoch": draw(st.integers(0, 100)),
        "world_size": world_size,
    }


def all_ranks(lengths, options):
    return [plan_batches(lengths, **options, rank=rank) for rank in range(options["world_size"])]


@given(plans())
@settings(max_examples=200)
def test_every_sequence_occurs_once_over_all_ranks(plan) -> None:
    lengths, options = plan
    batches = [batch for rank in all_ranks(lengths, options) for batch in rank]
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(plans())
@settings(max_examples=200)
def test_budgets_hold(plan) -> None:
    lengths, options = plan
    for rank in all_ranks(lengths, options):
        for batch in rank:
            assert len(batch) <= options["batch_sequences"]
            if options["batch_tokens"]:
                assert lengths[batch].sum() <= options["batch_tokens"]


@given(plans(), st.integers(0, 100))
@settings(max_examples=100)
def test_ranks_have_equally_many_batches_in_every_epoch(plan, other_epoch) -> None:
    lengths, options = plan
    counts = {len(rank) for rank in all_ranks(lengths, options)}
    counts |= {len(rank) for rank in all_ranks(lengths, options | {"epoch": other_epoch})}
    expected = batch_count(
        lengths,
        batch_sequences=options["batch_sequences"],
        batch_tokens=options["batch_tokens"],
        world_size=options["world_size"],
    )
    assert counts == {expected}


@given(plans())
@settings(max_examples=100)
def test_shares_of_all_ranks_are_the_batches_of_one_process(plan) -> None:
    lengths, options = plan
    alone = plan_batches(lengths, **(options | {"world_size": 1}))
    if min(len(batch) for batch in alone) >= options["world_size"]:
        together = [np.concatenate(shares) for shares in zip(*all_ranks(lengths, options), strict=True)]
        assert [batch.tolist() for batch in together] == [batch.tolist() for batch in alone]


@given(plans())
@settings(max_examples=50)
def test_plan_is_a_pure_function(plan) -> None:
    lengths, options = plan
    for left, right in zip(all_ranks(lengths, options), all_ranks(lengths, options), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_seed_and_epoch_change_order_and_company() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 2000)
    first = plan_batches(lengths, batch_sequences=16, bucket=4, seed=0, epoch=0)
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        second = plan_batches(lengths, batch_sequences=16, bucket=4, **other)
        assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
        assert {frozenset(batch.tolist()) for batch in first} != {frozenset(batch.tolist()) for batch in second}


def test_wider_buckets_waste_less_padding() -> None:
    lengths = np.random.default_rng(0).geometric(0.1, 5000)

    def padding(bucket: int) -> int:
        batches = plan_batches(lengths, batch_sequences=32, bucket=bucket)
        return sum(len(batch) * lengths[batch].max() - lengths[batch].sum() for batch in batches)

    assert padding(1) > 2 * padding(8) > 3 * padding(64)


def test_short_batches_do_not_come_first_or_last() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 20_000)
    means = [lengths[batch].mean() for batch in plan_batches(lengths, batch_sequences=20, bucket=1000)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.1


def test_ranks_have_about_equally_many_events_at_the_same_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 20_000)
    ranks = [plan_batches(lengths, batch_sequences=200, bucket=10, rank=rank, world_size=4) for rank in range(4)]
    totals = np.array([[lengths[batch].sum() for batch in rank] for rank in ranks])
    assert (totals.max(0) - totals.min(0)).mean() < 0.05 * totals.mean()


def test_token_budget_is_used_well() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 20_000)
    count = batch_count(lengths, batch_sequences=10_000, batch_tokens=8192)
    assert count <= 1.03 * lengths.sum() / 8192 + 1


def test_budget_below_two_sequences_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(ConfigurationError, match=r"longest sequence has 80 events. Set it to at least 160"):
        plan_batches(np.array([10, 80]), batch_sequences=4, batch_tokens=100)


def test_fewer_sequences_than_processes_are_refused() -> None:
    with pytest.raises(DataError, match="2 training sequences for 3 training processes"):
        plan_batches(np.array([4, 5]), batch_sequences=4, world_size=3)


def test_empty_batches_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 1 sequence"):
        plan_batches(np.array([4, 5]), batch_sequences=0)
