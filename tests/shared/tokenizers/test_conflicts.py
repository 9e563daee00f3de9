from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.errors import DataError
from recascade.tokenizers.code_groups import code_groups, place_in_group
from recascade.tokenizers.conflicts import append_digit, reassign, roomy_digit

TABLES = st.integers(0, 40).flatmap(
    lambda rows: st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=rows, max_size=rows)
)


def as_codes(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2)


def spread(codes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    return reassign(codes, distances.shape[1], lambda rows: distances[rows], temperature=0.05, iterations=30)


@given(TABLES)
def test_groups_are_those_of_unique_rows(rows: list[tuple[int, int]]) -> None:
    codes = as_codes(rows)
    expected = np.unique(codes, axis=0, return_inverse=True)[1] if rows else np.zeros(0)
    assert np.array_equal(code_groups(codes), expected)


def test_groups_of_many_levels_do_not_overflow() -> None:
    codes = np.full((3, 64), 2**20)
    codes[1, 0] -= 1
    assert code_groups(codes).tolist() == [1, 0, 1]
    assert code_groups(codes[:, :0]).tolist() == [0, 0, 0]


@given(TABLES)
def test_digits_count_up_within_a_code(rows: list[tuple[int, int]]) -> None:
    codes = as_codes(rows)
    with_digit = append_digit(codes, roomy_digit(codes))
    assert np.array_equal(with_digit[:, :2], codes)
    assert len(np.unique(with_digit, axis=0)) == len(codes)
    seen: dict[tuple[int, int], int] = {}
    for row, digit in zip(rows, with_digit[:, 2].tolist(), strict=True):
        assert digit == seen.get(row, 0)
        seen[row] = digit + 1


def test_a_digit_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError, match=r"3 items share one code, .* only 2: .* outgrown"):
        append_digit(np.zeros((3, 2), dtype=np.int64), 2)


def test_a_roomy_digit_leaves_room() -> None:
    assert roomy_digit(np.zeros((3, 2), dtype=np.int64)) == 256
    assert roomy_digit(np.zeros((300, 2), dtype=np.int64)) == 600


@given(TABLES, st.integers(0, 1000))
def test_reassigned_codes_are_unique_wherever_there_is_room(rows: list[tuple[int, int]], seed: int) -> None:
    codes = as_codes(rows)
    # Coarse distances: equal items and equal wishes.
    distances = np.random.default_rng(seed).integers(0, 3, size=(len(codes), 4)).astype(np.float32)
    moved = spread(codes, distances)
    assert np.array_equal(moved[:, 0], codes[:, 0])
    assert (moved[:, 1] >= 0).all()
    assert (moved[:, 1] < 4).all()
    alone = place_in_group(code_groups(codes)) == 0
    assert np.array_equal(moved[alone], codes[alone])
    for prefix in np.unique(codes[:, 0]):
        members = moved[codes[:, 0] == prefix, 1]
        assert len(np.unique(members)) == min(len(members), 4)


def test_an_item_moves_to_its_nearest_free_code() -> None:
    codes = np.array([[0, 1], [0, 1], [0, 3], [1, 1]])
    distances = np.array([[9, 0, 9, 9, 9], [5, 0, 4, 1, 2], [9, 9, 9, 0, 9], [0, 0, 0, 0, 0]], dtype=np.float32)
    # Code 3 would be nearest, but item 2 has it.
    assert spread(codes, distances).tolist() == [[0, 1], [0, 4], [0, 3], [1, 1]]


def test_pieces_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, [30, 4], size=(300, 2))
    distances = generator.random((300, 16), dtype=np.float32)
    whole = spread(codes, np.tile(distances[:1], (300, 1)))
    monkeypatch.setattr("recascade.tokenizers.conflicts._NUMBERS_AT_ONCE", 64)
    assert np.array_equal(spread(codes, np.tile(distances[:1], (300, 1))), whole)


def test_nothing_moves_without_conflicts() -> None:
    codes = np.array([[0, 1], [0, 2]])
    assert np.array_equal(spread(codes, np.zeros((2, 4), dtype=np.float32)), codes)
