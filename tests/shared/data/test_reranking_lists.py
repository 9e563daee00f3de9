from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small_lists import small_lists

from recascade.contracts.context import Context
from recascade.data.reranking_data import RerankingData, learnable
from recascade.data.reranking_lists import RerankingLists
from recascade.errors import DataError


@dataclass
class Settings:
    batch_sequences: int = 4
    batch_tokens: int = 0
    bucket: int = 2
    validation_users: int = 0
    workers: int = 0


def same(one: object, other: object) -> None:
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, torch.Tensor | np.ndarray):
            assert value.shape == theirs.shape and value.dtype == theirs.dtype
            assert np.array_equal(
                np.asarray(value),
                np.asarray(theirs),
                equal_nan=value.dtype.kind == "f" if isinstance(value, np.ndarray) else False,
            ), name


def live(lists: RerankingLists, row: int) -> object:
    """What a service sends for this list: the whole history, the candidates, their scores and features."""
    places = slice(lists.offsets[row], lists.offsets[row + 1])
    user = int(lists.users[row])
    begin = lists.events.offsets[user] if user >= 0 else lists.history_ends[row]
    events = slice(begin, lists.history_ends[row])
    context = Context(
        users=torch.tensor([user]),
        items=torch.from_numpy(lists.events.items[events].astype(np.int64)),
        timestamps=torch.from_numpy(lists.events.timestamps[events]),
        offsets=torch.tensor([0, lists.history_ends[row] - begin]),
        now=torch.tensor([lists.times[row]]),
    )
    items = torch.from_numpy(lists.items[places].astype(np.int64))[None]
    features = torch.from_numpy(lists.features[places])[None]
    return lists.inputs.batch(context, items, torch.from_numpy(lists.scores[places])[None], features)


def test_a_live_request_is_encoded_as_its_list_was() -> None:
    lists = small_lists()
    for row in range(12):
        batch = lists.batch(np.array([row]))
        same(replace(batch.without_labels(), lists=torch.tensor([-1])), live(lists, row))


def test_saved_and_loaded_lists_are_the_same(tmp_path) -> None:
    lists = small_lists()
    lists.save(tmp_path / "lists")
    loaded = RerankingLists.load(tmp_path / "lists")
    same(lists, loaded)
    same(lists.inputs, loaded.inputs)
    assert loaded.schema == lists.schema and loaded.ids.to_list() == lists.ids.to_list()
    assert dict(loaded.facts) == dict(lists.facts)


def test_damaged_files_are_named(tmp_path) -> None:
    small_lists().save(tmp_path)
    (tmp_path / "tables.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match="damaged"):
        RerankingLists.load(tmp_path)
    with pytest.raises(DataError, match="no file"):
        RerankingLists.load(tmp_path / "nothing")


def test_candidates_stand_where_they_stood() -> None:
    lists = small_lists()
    rows = np.array([3, 0, 7])
    batch = lists.batch(rows)
    for place, row in enumerate(rows):
        length = int(lists.lengths[row])
        own = slice(lists.offsets[row], lists.offsets[row + 1])
        assert batch.candidate_items[place, :length].tolist() == lists.items[own].tolist()
        assert batch.labels[place, :length].tolist() == lists.labels[own].tolist()
        assert batch.candidate_mask[place].tolist() == [True] * length + [False] * (8 - length)
        assert (batch.labels[place, length:] == 0).all()


def test_a_history_holds_the_latest_events_alone_and_nothing_of_other_users() -> None:
    lists = small_lists()
    batch = lists.batch(np.arange(len(lists)))
    for row, user in enumerate(lists.users.tolist()):
        events = lists.events.items[lists.events.offsets[user] : lists.history_ends[row]] if user >= 0 else []
        assert batch.history_items[row][batch.history_mask[row]].tolist() == list(events[-5:])


def test_scores_are_standardised_within_the_list() -> None:
    lists = small_lists()
    moved = replace(lists, scores=lists.scores * 1000 + 1e6)
    rows = np.flatnonzero(lists.lengths > 2)
    torch.testing.assert_close(moved.batch(rows).initial_scores, lists.batch(rows).initial_scores, rtol=0.1, atol=0.1)
    equal = replace(lists, scores=np.full_like(lists.scores, 0.3))
    assert (equal.batch(rows).initial_scores == 0).all()
    unknown = replace(lists, scores=np.full_like(lists.scores, np.nan))
    assert (unknown.batch(rows).initial_scores == 0).all()
    assert torch.equal(unknown.batch(rows).candidate_mask, lists.batch(rows).candidate_mask)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_or_infinite_feature_is_the_mean(value: float) -> None:
    lists = small_lists()
    features = lists.features.copy()
    features[2, 1] = value
    damaged = replace(lists, features=features).batch(np.array([0])).candidate_features
    assert damaged[0, 2, -1] == 0
    assert damaged.isfinite().all()


def test_a_candidate_is_compared_with_the_history() -> None:
    lists = small_lists()
    context = Context(
        users=torch.tensor([0]),
        items=torch.tensor([7, 3, 7]),
        timestamps=torch.tensor([0, 60, 120]),
        offsets=torch.tensor([0, 3]),
        now=torch.tensor([180]),
    )
    features = torch.zeros(1, 3, 2)
    compared = lists.inputs.batch(context, torch.tensor([[7, 3, 5]]), None, features).candidate_features[0, :, 3:5]
    expected = [[np.log(3), 1 / 2], [np.log(2), 1 / (1 + np.log2(3))], [0, 0]]
    torch.testing.assert_close(compared, torch.tensor(expected, dtype=torch.float32))


def test_live_requests_may_be_short_or_of_strangers() -> None:
    lists = small_lists()
    context = Context(
        users=torch.tensor([-1, 10_000]),
        items=torch.empty(0, dtype=torch.int64),
        timestamps=torch.empty(0, dtype=torch.int64),
        offsets=torch.tensor([0, 0, 0]),
    )
    items, scores = torch.tensor([[4, 6], [9_999, 2]]), torch.tensor([[1.0, -torch.inf], [0.5, 0.2]])
    batch = lists.inputs.batch(context, items, scores, torch.full((2, 2, 2), torch.nan))
    assert batch.candidate_mask.tolist() == [[True, False], [True, True]]
    assert batch.candidate_items.tolist() == [[4, -1], [-1, 2]]
    assert (batch.profile == 0).all() and not batch.history_mask.any() and batch.history_mask.shape == (2, 1)
    assert batch.candidate_features.isfinite().all()


@pytest.mark.parametrize(
    ("items", "scores", "features", "words"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), None, None, "1 requests"),
        (torch.zeros(1, 0, dtype=torch.int64), None, None, "at least one candidate"),
        (torch.zeros(1, 9, dtype=torch.int64), None, torch.zeros(1, 9, 2), "at most 8"),
        (torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 2), None, "one each"),
        (torch.zeros(1, 3, dtype=torch.int64), None, None, "but none were given"),
        (torch.zeros(1, 3, dtype=torch.int64), None, torch.zeros(1, 3, 1), "shape"),
    ],
)
def test_requests_that_do_not_fit_are_explained(items, scores, features, words: str) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    context = Context(torch.tensor([0]), nothing, nothing, torch.tensor([0, 0]))
    with pytest.raises(DataError, match=words):
        small_lists().inputs.batch(context, items, scores, features)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda lists: {"labels": np.where(np.arange(len(lists.items)) == 2, -1, lists.labels)}, "list-0"),
        (lambda lists: {"labels": np.where(np.arange(len(lists.items)) == 2, np.nan, lists.labels)}, "list-0"),
        (lambda lists: {"items": np.zeros_like(lists.items)}, "stands twice"),
        (lambda lists: {"ids": lists.ids.set(lists.ids == "list-1", "list-0")}, "same id"),
        (lambda lists: {"offsets": np.where(np.arange(len(lists) + 1) == 1, 0, lists.offsets)}, "no candidates"),
        (lambda lists: {"scores": lists.scores[1:]}, "scores"),
    ],
)
def test_lists_that_cannot_be_are_refused(changes, words: str) -> None:
    lists = small_lists()
    with pytest.raises(DataError, match=words):
        replace(lists, **changes(lists))


def test_unknown_items_may_stand_more_than_once() -> None:
    lists = small_lists()
    assert len(replace(lists, items=np.full_like(lists.items, -1))) == len(lists)


def test_training_goes_through_every_list_that_teaches_and_no_other() -> None:
    lists = small_lists(60)
    data = RerankingData(lists, Settings())
    seen = [row for batch in data.train_dataloader() for row in batch.lists.tolist()]
    positive = [row for row in lists.rows("train") if lists.labels[lists.offsets[row] : lists.offsets[row + 1]].any()]
    assert sorted(seen) == positive == learnable(lists, lists.rows("train")).tolist()
    assert len(positive) < len(lists.rows("train"))
    checked = [row for batch in data.val_dataloader() for row in batch.lists.tolist()]
    assert checked == lists.rows("validation").tolist()


def test_lists_without_any_click_cannot_be_learned_from() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        RerankingData(small_lists(clicked="none"), Settings())
