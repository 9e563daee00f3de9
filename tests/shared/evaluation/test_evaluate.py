"""Evaluation of a retriever: what is asked, what is counted, what is kept."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever, TopK
from recascade.data.encoded import EncodedSplit
from recascade.errors import DataError, TrainingError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.requests import find_hits, requests, target_sets
from recascade.nn.top_k import top_k_scores


class FixedScores:
    """Scores every user's items by a table ``[U, I]``, and remembers what it was asked."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.contexts: list[Context] = []

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        self.contexts.append(context)
        seen = context if exclude_seen else None
        return top_k_scores(self.table[context.users], k, seen=seen, candidates=candidates)


@pytest.fixture
def world(encoded_split: Callable[..., EncodedSplit]) -> EncodedSplit:
    """Four users, one of them without a test target; user 2 has two targets, one of them bought before, user 3 an
    unknown one."""
    return encoded_split(
        [[0, 1, 2], [3], [4, 5, 4, 6], [7]],
        items=9,
        validation=[[3], [4], [7], [8]],
        test=[[4], [], [5, 0], [-1]],
        times=[[10, 20, 30, 40], [10, 20], [10, 20, 30, 40, 50], [10, 20]],
        target_times=[[40], [], [60, 60], [30]],
    )


def ranking(order: list[int], users: int = 4) -> FixedScores:
    scores = torch.zeros(9)
    scores[torch.tensor(order)] = torch.arange(len(order), 0, -1).float()
    return FixedScores(scores.repeat(users, 1))


def test_fits_the_contract() -> None:
    assert isinstance(ranking([0]), Retriever)


def test_values_by_hand(world: EncodedSplit) -> None:
    result = evaluate(ranking([5, 4, 0, 1]), world, "test", EvaluationConfig(cutoffs=[2, 3]))
    table = result.per_user
    assert table["user_id"].to_list() == ["user-0", "user-2", "user-3"]
    assert table["history_length"].to_list() == [4, 5, 2]
    assert table["targets"].to_list() == [1, 2, 1]
    assert table["hit_rate@2"].to_list() == [1.0, 1.0, 0.0]
    assert table["recall@2"].to_list() == [1.0, 0.5, 0.0]
    assert table["recall@3"].to_list() == [1.0, 1.0, 0.0]
    assert table["mrr@2"].to_list() == [0.5, 1.0, 0.0]
    assert result.summary["recall@2"] == pytest.approx(0.5)
    assert result.lists[:, :3].tolist() == [[5, 4, 0]] * 3


def test_tied_targets_are_told_from_new_times(world: EncodedSplit) -> None:
    result = evaluate(ranking([4]), world, "test", EvaluationConfig(cutoffs=[1]))
    assert result.per_user["tied"].to_list() == [True, False, False]
    assert result.groups["tied"]["tied"] == pytest.approx(
        {"users": 1, "hit_rate@1": 1, "recall@1": 1, "precision@1": 1, "ndcg@1": 1, "mrr@1": 1, "map@1": 1}
        | {"recall@1/explore": 1, "ndcg@1/explore": 1}
    )
    assert result.groups["tied"]["new time"]["users"] == 2


def test_unknown_times_tie_nothing(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0], [1]], items=3, test=[[1], [2]])
    result = evaluate(ranking([1], 2), data, "test", EvaluationConfig(cutoffs=[1]))
    assert result.per_user["tied"].to_list() == [None, None]
    assert result.groups["tied"] == {}


def test_repeat_and_explore_count_their_own_targets(world: EncodedSplit) -> None:
    table = evaluate(ranking([5, 4, 1]), world, "test", EvaluationConfig(cutoffs=[3])).per_user
    assert table["recall@3/repeat"].to_list() == [None, 1.0, None]
    assert table["recall@3/explore"].to_list() == [1.0, 0.0, 0.0]
    assert table["ndcg@3/explore"][0] == pytest.approx(1 / np.log2(3))


def test_without_repeats_there_are_no_repeat_columns(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0], [1]], items=3, test=[[1], [2]])
    result = evaluate(ranking([1], 2), data, "test", EvaluationConfig(cutoffs=[1]))
    assert not [name for name in result.per_user.columns if "/" in name]


def test_histories_hold_validation_only_in_the_test_part(world: EncodedSplit) -> None:
    model = ranking([0])
    evaluate(model, world, "validation", EvaluationConfig(cutoffs=[1], batch_size=100))
    (asked,) = model.contexts
    rows = {
        int(user): asked.items[asked.offsets[b] : asked.offsets[b + 1]].tolist() for b, user in enumerate(asked.users)
    }
    assert rows == {0: [0, 1, 2], 1: [3], 2: [4, 5, 4, 6], 3: [7]}
    context = requests(world.events, world.test, np.array([1]))
    assert context.items.tolist() == [4, 5, 4, 6, 7]
    assert context.now is not None and context.now.tolist() == [60]


def test_seen_items_can_be_left_out(world: EncodedSplit) -> None:
    lists = evaluate(ranking([5, 4, 3, 2, 1]), world, "test", EvaluationConfig(cutoffs=[3], exclude_seen=True)).lists
    assert lists[0].tolist()[:2] == [5, 4]
    assert not {4, 5, 6, 7} & set(lists[1].tolist())


def test_only_candidates_are_ranked(world: EncodedSplit, tmp_path: Path) -> None:
    path = tmp_path / "candidates.txt"
    path.write_text("item-4\nitem-8\n\nitem-unheard-of\n", encoding="utf-8")
    config = EvaluationConfig(cutoffs=[3], candidates=str(path))
    assert evaluate(ranking([5, 4]), world, "test", config).lists.tolist() == [[4, 8, -1]] * 3
    path.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(DataError, match="None of the 1 items"):
        evaluate(ranking([5, 4]), world, "test", config)
    with pytest.raises(DataError, match="is no file"):
        evaluate(ranking([5]), world, "test", EvaluationConfig(candidates=str(tmp_path / "absent")))


def test_a_part_without_users_is_refused(encoded_split: Callable[..., EncodedSplit]) -> None:
    with pytest.raises(DataError, match="validation part"):
        evaluate(ranking([0]), encoded_split([[0, 1]], items=9), "validation", EvaluationConfig())


def test_scores_that_are_not_numbers_are_refused(world: EncodedSplit) -> None:
    with pytest.raises(TrainingError, match="NaN"):
        evaluate(FixedScores(torch.full((4, 9), torch.nan)), world, "test", EvaluationConfig())


def random_world(make: Callable[..., EncodedSplit], seed: int, users: int = 30, items: int = 40) -> EncodedSplit:
    generator = np.random.default_rng(seed)

    def rows(least: int, most: int) -> list[list[int]]:
        return [generator.integers(0, items, generator.integers(least, most)).tolist() for _ in range(users)]

    return make(rows(0, 9), items=items, validation=rows(1, 3), test=rows(1, 6))


def test_batches_and_samples_do_not_change_a_users_values(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = random_world(encoded_split, 1)
    model = FixedScores(torch.rand(30, 40, generator=torch.Generator().manual_seed(1)))
    whole = evaluate(model, data, "test", EvaluationConfig())
    for config in (EvaluationConfig(batch_size=1), EvaluationConfig(batch_size=7)):
        assert evaluate(model, data, "test", config).per_user.equals(whole.per_user)
    sample = evaluate(model, data, "test", EvaluationConfig(max_users=10, seed=3)).per_user
    columns = ["user_id", "ndcg@10", "recall@5"]
    assert len(sample) == 10
    assert sample.select(columns).equals(
        whole.per_user.select(columns).filter(pl.col("user_id").is_in(sample["user_id"].implode()))
    )


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_hits_equal_membership(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.permutation(12)[:5] - 1 for _ in range(6)]).astype(np.int32)
    targets = [sorted(set((generator.integers(-1, 11, generator.integers(0, 5))).tolist())) for _ in range(6)]
    rows = np.repeat(np.arange(6), [len(row) for row in targets])
    flat = np.array([item for row in targets for item in row], dtype=np.int64)
    expected = [
        [item >= 0 and item in wanted for item in row] for row, wanted in zip(lists.tolist(), targets, strict=True)
    ]
    assert find_hits(lists, rows, flat, 11).tolist() == expected


def test_a_request_is_made_at_the_time_of_its_earliest_target(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split(
        [[0], [0], [0]], items=3, test=[[1, 2], [1], [2]], times=[[1]] * 3, target_times=[[9, 5], [7], [8]]
    )
    context = requests(data.events, data.test, np.array([2, 0, 1]))
    assert context.now is not None and context.now.tolist() == [8, 5, 7]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_target_sets_equal_python_sets(encoded_split: Callable[..., EncodedSplit], seed: int) -> None:
    data = random_world(encoded_split, seed, users=8, items=6)
    rows = np.arange(len(data.test))
    found = target_sets(data.events, data.test, rows, 6)
    for row in range(len(rows)):
        context = requests(data.events, data.test, np.array([row]))
        wanted = set(data.test.target_items[data.test.target_offsets[row] : data.test.target_offsets[row + 1]].tolist())
        mine = found.rows == row
        assert found.items[mine].tolist() == sorted(wanted)
        assert found.counts[row] == len(wanted)
        assert found.repeated[mine].tolist() == [item in context.items.tolist() for item in sorted(wanted)]


def test_histories_are_read_as_the_memory_allows_with_the_same_result(
    encoded_split: Callable[..., EncodedSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    random, users, length = np.random.default_rng(0), 100, 1_000
    histories = random.integers(0, 50, (users, length)).tolist()
    data = encoded_split(histories, items=50, test=random.integers(0, 50, (users, 3)).tolist())
    found, peaks = [], []
    for memory in ("1TB", "8MB"):
        monkeypatch.setenv("RECASCADE_MEMORY", memory)
        tracemalloc.start()
        found.append(target_sets(data.events, data.test, np.arange(users), 50))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))
    assert found[0].repeated.any()
    # Every event takes some words of 8 bytes while it is looked up: all of them here, at most a twentieth there.
    assert peaks[1] < users * length * 8 / 2 < peaks[0]


def test_unknown_targets_count_each(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0]], items=3, test=[[-1, -1, 2, 2]])
    assert target_sets(data.events, data.test, np.array([0]), 3).counts.tolist() == [3]
