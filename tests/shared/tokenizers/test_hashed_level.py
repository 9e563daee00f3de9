from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recascade.errors import DataError
from recascade.tokenizers.hashed_level import HashedLevel

ITEMS = pl.DataFrame(
    {
        "item_id": [f"item-{number}" for number in range(6000)],
        "account": [f"account-{number % 7}" for number in range(6000)],
        "goal": [number % 2 for number in range(6000)],
    }
)


def test_codes_do_not_depend_on_other_items_or_on_their_order() -> None:
    level = HashedLevel(64, ("account", "item_id"))
    codes = level.codes(ITEMS)
    assert codes.dtype == np.int64
    assert np.array_equal(level.codes(ITEMS[100:200]), codes[100:200])
    assert np.array_equal(level.codes(ITEMS.reverse()), codes[::-1])


def test_known_values_stay_the_same_in_every_release() -> None:
    assert HashedLevel(1024).codes(ITEMS[:4]).tolist() == [426, 223, 107, 277]


def test_every_code_is_used_about_equally() -> None:
    counts = np.bincount(HashedLevel(64).codes(ITEMS), minlength=64)
    # χ² of 63 degrees of freedom is below 114 with probability 0.9999.
    assert (np.square(counts - 6000 / 64) / (6000 / 64)).sum() < 114


def test_items_that_agree_in_the_key_share_the_level() -> None:
    codes = HashedLevel(2**40, ("account", "goal")).codes(ITEMS)
    assert len(np.unique(codes)) == 14
    assert codes[0] == codes[14] != codes[7]


def test_salt_and_order_of_the_key_matter() -> None:
    first = HashedLevel(1024, ("account", "item_id"), salt=0).codes(ITEMS)
    for other in (HashedLevel(1024, ("account", "item_id"), salt=1), HashedLevel(1024, ("item_id", "account"))):
        assert np.mean(first == other.codes(ITEMS)) < 0.01


def test_null_is_a_value_of_its_own() -> None:
    fields = pl.DataFrame({"brand": [None, "", None, "x"]})
    codes = HashedLevel(2**40, ("brand",)).codes(fields)
    assert codes[0] == codes[2]
    assert len(np.unique(codes)) == 3


def test_unknown_and_nested_fields_are_refused() -> None:
    with pytest.raises(DataError, match=r"no field 'acount' to hash. Did you mean 'account'"):
        HashedLevel(8, ("acount",)).codes(ITEMS)
    with pytest.raises(DataError, match="holds lists"):
        HashedLevel(8, ("tags",)).codes(pl.DataFrame({"tags": [["a"]]}))
