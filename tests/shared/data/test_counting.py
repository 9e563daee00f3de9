from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data import counting
from recascade.data.counting import count_values, distinct_values


@given(st.lists(st.sampled_from(["a", "B", "é", "ee", ""]), max_size=60), st.integers(1, 70))
@settings(max_examples=60)
def test_counts_do_not_depend_on_the_stretches(values: list[str], stretch: int) -> None:
    log = pl.LazyFrame({"other": values, "user_id": values}, schema={"other": pl.String, "user_id": pl.String})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "ROWS_AT_A_TIME", stretch)
        counted = count_values(log, "user_id")
        assert distinct_values(log, "user_id").equals(counted["user_id"])
    assert dict(counted.rows()) == Counter(values)
    assert counted["user_id"].to_list() == sorted(set(values), key=str.encode)
    assert counted.schema == {"user_id": pl.String, "len": pl.Int64}
