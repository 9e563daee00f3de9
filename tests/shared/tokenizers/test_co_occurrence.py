from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from recascade.tokenizers.config import ContrastiveConfig
from recascade.tokenizers.contrastive import ContrastiveProjection, multi_positive_loss
from recascade.tokenizers.swing import strongest, swing

HISTORIES = [[0, 1, 2, 0], [1, 0, 3], [2, 1, 4], [0, 1], [5], [3, 4, 0, 1]]


def by_hand(histories: list[list[int]], items: int, smoothing: float) -> np.ndarray:
    table = np.zeros((items, items))
    sets = [set(history) for history in histories]
    for one, other in itertools.combinations(sets, 2):
        for i, j in itertools.permutations(one & other, 2):
            table[i, j] += 1 / (smoothing + len(one & other))
    return table


def similarity(data: Any, **changes: Any) -> np.ndarray:
    settings = {"smoothing": 1.0, "longest_history": 50, "users_per_item": 200, "seed": 0} | changes
    table: np.ndarray = swing(data, **settings).toarray()
    return table


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 3.0])
def test_swing_is_the_sum_over_pairs_of_users(encoded_split: Any, smoothing: float) -> None:
    data = encoded_split(HISTORIES, items=6)
    assert np.allclose(similarity(data, smoothing=smoothing), by_hand(HISTORIES, 6, smoothing), atol=1e-6)


def test_swing_in_pieces_is_the_same(encoded_split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded_split(HISTORIES, items=6)
    monkeypatch.setattr("recascade.tokenizers.swing._COMMON_AT_ONCE", 3)
    assert np.allclose(similarity(data), by_hand(HISTORIES, 6, 1.0), atol=1e-6)


def test_held_out_events_do_not_reach_swing(encoded_split: Any) -> None:
    plain = encoded_split(HISTORIES, items=6)
    held_out = encoded_split(
        HISTORIES, items=6, validation=[[5], [5], [5], [5], [0], [5]], test=[[4], [4], [4], [5], [1], [5]]
    )
    assert np.array_equal(similarity(plain), similarity(held_out))
    assert similarity(held_out.with_validation_trained())[5, 1] > 0


def test_only_the_latest_items_and_the_drawn_users_count(encoded_split: Any) -> None:
    data = encoded_split([[0, 1, 2, 3], [0, 1, 2, 3], [3, 2, 1, 0]], items=4)
    latest = similarity(data, longest_history=2)
    assert latest[2, 3] > 0
    assert latest[0, 1] == 0
    assert similarity(data, users_per_item=2).max() <= 1 / 2


def test_swing_without_common_items_is_empty(encoded_split: Any) -> None:
    assert similarity(encoded_split([[0, 1], [2], []], items=3)).sum() == 0


def test_the_strongest_partners_of_each_item() -> None:
    table = sparse.csr_matrix(np.array([[0, 2, 3, 1], [5, 0, 5, 5], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=np.float32))
    assert strongest(table, 2).toarray().tolist() == [[0, 2, 3, 0], [5, 0, 5, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_loss_is_equation_1() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    positives = torch.tensor(
        [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5], dtype=torch.bool
    )
    expected = []
    for i in range(4):
        similar = {k: float(torch.exp(vectors[i] @ vectors[k] / 0.3)) for k in range(5) if k != i}
        near = sum(value for k, value in similar.items() if positives[i, k])
        expected.append(-np.log(near / sum(similar.values())))
    assert float(multi_positive_loss(vectors, positives, 0.3)) == pytest.approx(np.mean(expected), abs=1e-5)
    assert float(multi_positive_loss(vectors, torch.zeros(5, 5, dtype=torch.bool), 0.3)) == 0


def test_tuning_brings_partners_together() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.arange(60) % 6
    partners = sparse.csr_matrix(((groups[:, None] == groups[None]) & ~np.eye(60, dtype=bool)).astype(np.float32))
    config = ContrastiveConfig(epochs=60, batch=32, hidden=32)

    def nearness(points: np.ndarray) -> float:
        return float((points @ points.T)[partners.toarray() > 0].mean())

    start, again = (ContrastiveProjection.fit(vectors, partners, ContrastiveConfig(hidden=32), 0) for _ in range(2))
    tuned = ContrastiveProjection.fit(vectors, partners, config, 0)
    assert np.allclose(start.encode(vectors), vectors, atol=1e-6)
    assert np.array_equal(start.encode(vectors), again.encode(vectors))
    assert nearness(tuned.encode(vectors)) > nearness(vectors) + 0.3
    assert np.allclose(np.linalg.norm(tuned.encode(vectors), axis=1), 1, atol=1e-5)
    copy = ContrastiveProjection.from_arrays(tuned.arrays())
    assert np.array_equal(copy.encode(vectors), tuned.encode(vectors))


def test_tuning_without_partners_leaves_the_vectors() -> None:
    vectors = np.eye(4, dtype=np.float32)
    projection = ContrastiveProjection.fit(vectors, sparse.csr_matrix((4, 4)), ContrastiveConfig(epochs=3), 0)
    assert np.allclose(projection.encode(vectors), vectors)
