from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.hashing import hash_strings, seeded_order

TEXTS = st.lists(st.text(max_size=40), max_size=30)


def hash_by_definition(text: str, seed: int) -> int:
    def mix(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    content = text.encode()
    state = mix(mix(seed) ^ len(content))
    for start in range(0, len(content), 8):
        state = mix(state ^ int.from_bytes(content[start : start + 8], "little"))
    return state


@given(TEXTS, st.integers(0, 2**63))
def test_hashes_are_those_of_the_definition(texts: list[str], seed: int) -> None:
    hashes = hash_strings(pl.Series(texts, dtype=pl.String), seed)
    assert hashes.tolist() == [hash_by_definition(text, seed) for text in texts]


@given(TEXTS, st.integers(0, 2**63))
def test_equal_strings_and_only_they_have_equal_hashes(texts: list[str], seed: int) -> None:
    hashes = hash_strings(pl.Series(texts, dtype=pl.String), seed)
    assert len(set(hashes.tolist())) == len(set(texts))
    assert len({*zip(texts, hashes.tolist(), strict=True)}) == len(set(texts))


@given(TEXTS, st.integers(0, 10))
def test_a_hash_depends_on_its_string_alone(texts: list[str], start: int) -> None:
    series = pl.Series(texts, dtype=pl.String)
    np.testing.assert_array_equal(hash_strings(series)[start:], hash_strings(series[start:]))


@given(st.sets(st.text(max_size=10)), st.sets(st.text(max_size=10)), st.integers(0, 5))
def test_other_strings_never_change_the_order_of_two(texts: set[str], others: set[str], seed: int) -> None:
    alone = seeded_order(pl.Series(sorted(texts), dtype=pl.String), seed).to_list()
    together = seeded_order(pl.Series(sorted(texts | others, reverse=True), dtype=pl.String), seed).to_list()
    assert [text for text in together if text in texts] == alone


def test_orders_look_random_and_differ_between_seeds() -> None:
    names = pl.Series([f"item-{number:05d}" for number in range(20_000)])
    orders = [seeded_order(names, seed).str.slice(5).cast(pl.Int64).to_numpy() for seed in (0, 1)]
    for one, other in ((orders[0], np.arange(20_000)), (orders[0], orders[1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
