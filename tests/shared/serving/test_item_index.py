from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from recascade.errors import DataError, MissingDependencyError
from recascade.serving.faiss_index import FaissIndex
from recascade.serving.item_index import FlatIndex, ItemIndex, recall
from recascade.serving.usearch_index import UsearchIndex

Make = Callable[[int], ItemIndex]
KINDS: list[type] = [FlatIndex, FaissIndex, UsearchIndex]
MODULES = {FlatIndex: "numpy", FaissIndex: "faiss", UsearchIndex: "usearch"}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    pytest.importorskip(MODULES[request.param])
    return request.param


def unit_vectors(count: int, dimension: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


def clustered(count: int, dimension: int, seed: int = 0) -> Tensor:
    centres = unit_vectors(60, dimension, seed)
    return normalize(centres[torch.arange(count) % 60] + 0.05 * unit_vectors(count, dimension, seed + 1), dim=1)


def brute_force(vectors: dict[int, Tensor], query: Tensor, k: int) -> list[int]:
    return sorted(vectors, key=lambda row: -float(vectors[row] @ query))[:k]


def filled(make: Make, count: int = 300, dimension: int = 8) -> tuple[ItemIndex, dict[int, Tensor]]:
    rows = torch.randperm(1000, generator=torch.Generator().manual_seed(3))[:count]
    vectors = unit_vectors(count, dimension)
    index = make(dimension)
    index.upsert(rows, vectors)
    return index, dict(zip(rows.tolist(), vectors, strict=True))


def test_search_equals_brute_force(make: Make) -> None:
    index, vectors = filled(make)
    queries = unit_vectors(5, 8, seed=9)
    found = index.search(queries, 10)
    assert isinstance(index, ItemIndex) and len(index) == 300
    assert found.items.dtype == torch.int64 and found.scores.dtype == torch.float32
    for query, items, scores in zip(queries, found.items, found.scores, strict=True):
        assert items.tolist() == brute_force(vectors, query, 10)
        expected = torch.stack([vectors[row] @ query for row in items.tolist()])
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("requests", [0, 1, 2])
def test_fewer_items_than_asked_leave_minus_one(make: Make, size: int, requests: int) -> None:
    index = make(4)
    index.upsert(torch.arange(size), unit_vectors(size, 4))
    found = index.search(unit_vectors(requests, 4), 5)
    assert found.items.shape == found.scores.shape == (requests, 5)
    assert (found.items[:, size:] == -1).all() and (found.scores[:, size:] == -torch.inf).all()
    assert (found.items[:, :size].sort(dim=1).values == torch.arange(size)).all()
    assert found.scores[:, :size].isfinite().all()


def test_an_upsert_replaces_and_a_removal_forgets(make: Make) -> None:
    index, vectors = filled(make)
    first, second, *_ = vectors
    query = unit_vectors(1, 8, seed=5)
    index.upsert(torch.tensor([first, first, 5000]), torch.cat([query, -query, query]))
    assert len(index) == 301
    best = index.search(query, 301)
    assert best.items[0, 0] == 5000 and best.items[0, -1] == first
    index.remove(torch.tensor([5000, second, second, 77777]))
    assert len(index) == 299
    assert not torch.isin(index.search(query, 301).items, torch.tensor([5000, second])).any()


def test_a_copy_is_independent(make: Make) -> None:
    index, _ = filled(make)
    query = unit_vectors(1, 8, seed=5)
    before = index.search(query, 20)
    changed = index.copy()
    changed.upsert(torch.tensor([5000]), query)
    changed.remove(before.items[0, :5])
    after = index.search(query, 20)
    assert torch.equal(before.items, after.items)
    assert changed.search(query, 1).items.item() == 5000
    assert len(index) == 300 and len(changed) == 296


@pytest.mark.parametrize(
    ("rows", "vectors", "sentence"),
    [
        ([0], torch.zeros(1, 3), r"holds vectors of 4 numbers.*\(1, 3\)"),
        ([0, 1], torch.zeros(1, 4), "for 2 rows"),
        ([-1], torch.zeros(1, 4), "Row -1 cannot be indexed"),
        ([2, 7], torch.tensor([[0.0, 0, 0, 0], [0, torch.nan, 0, 0]]), "vector of row 7"),
    ],
)
def test_what_cannot_be_indexed_changes_nothing(make: Make, rows: list[int], vectors: Tensor, sentence: str) -> None:
    index = make(4)
    index.upsert(torch.tensor([9]), unit_vectors(1, 4))
    with pytest.raises(DataError, match=sentence):
        index.upsert(torch.tensor(rows), vectors)
    assert len(index) == 1
    assert index.search(unit_vectors(1, 4), 2).items.tolist() == [[9, -1]]


def test_queries_of_another_width_are_refused(make: Make) -> None:
    index, _ = filled(make)
    with pytest.raises(DataError, match="must come from one model"):
        index.search(torch.zeros(1, 7), 3)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), min_size=1, max_size=12)), max_size=8))
def test_any_history_of_changes_equals_a_dictionary(changes: list[tuple[bool, list[int]]]) -> None:
    index, mirror = FlatIndex(3), {}
    random = np.random.default_rng(0)
    for adding, rows in changes:
        if adding:
            vectors = torch.from_numpy(random.standard_normal((len(rows), 3)).astype(np.float32))
            index.upsert(torch.tensor(rows), vectors)
            mirror.update(zip(rows, vectors, strict=True))
        else:
            index.remove(torch.tensor(rows))
            mirror = {row: vector for row, vector in mirror.items() if row not in rows}
    query = torch.tensor([[0.3, -0.5, 0.8]])
    assert len(index) == len(mirror)
    expected = brute_force(mirror, query[0], 40)
    assert index.search(query, 40).items[0].tolist() == expected + [-1] * (40 - len(expected))


def test_a_tuned_index_reaches_its_recall_and_keeps_it_through_changes() -> None:
    pytest.importorskip("faiss")
    vectors, queries = clustered(12_000, 16), clustered(50, 16, seed=0)
    index, exact = FaissIndex(16, cutoff=50), FlatIndex(16)
    for each in (index, exact):
        each.upsert(torch.arange(12_000), vectors)
    assert index.tune(queries) >= 0.985 and not index.exact
    for each in (index, exact):
        each.upsert(torch.arange(3_000), vectors[3_000:6_000])
        each.remove(torch.arange(9_000, 10_000))
    assert len(index) == len(exact) == 11_000
    found = index.search(queries, 50)
    assert recall(found.items, exact.search(queries, 50).items) >= 0.97
    assert found.items.max() < 12_000 and not ((found.items >= 9_000) & (found.items < 10_000)).any()
    changed = index.copy()
    changed.upsert(torch.tensor([20_000]), queries[:1])
    assert changed.search(queries[:1], 1).items.item() == 20_000 != index.search(queries[:1], 1).items.item()


def test_a_list_longer_than_the_scanned_lists_is_still_full() -> None:
    pytest.importorskip("faiss")
    index = FaissIndex(16, cutoff=10)
    index.upsert(torch.arange(12_000), clustered(12_000, 16))
    index.tune(clustered(50, 16))
    assert not index.exact
    assert (index.search(clustered(1, 16), 12_000).items[0].sort().values == torch.arange(12_000)).all()


def test_vectors_without_neighbourhoods_are_searched_exactly() -> None:
    pytest.importorskip("faiss")
    index = FaissIndex(64)
    index.upsert(torch.arange(12_000), unit_vectors(12_000, 64))
    assert index.tune(unit_vectors(50, 64, seed=4)) == 1.0
    assert index.exact


def test_a_graph_is_searched_wider_until_the_recall_is_reached() -> None:
    pytest.importorskip("usearch")
    index = UsearchIndex(32, cutoff=50)
    index.upsert(torch.arange(4_000), unit_vectors(4_000, 32))
    assert index.tune(unit_vectors(40, 32, seed=4)) >= 0.985


def test_recall_counts_what_exists() -> None:
    assert recall(torch.tensor([[3, 1, 9]]), torch.tensor([[1, 2, -1]])) == 0.5


@pytest.mark.parametrize(
    ("kind", "module", "extra"), [(FaissIndex, "faiss", "ann"), (UsearchIndex, "usearch.index", "usearch")]
)
def test_a_missing_engine_names_the_command(
    monkeypatch: pytest.MonkeyPatch, kind: type, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "recascade\[{extra}\]"'):
        kind(4)
