from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.dataset import Dataset
from recascade.data.inspect import inspect
from recascade.data.log_summary import summarise

COLUMNS = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}


def sentences(dataset: Dataset) -> str:
    return "\n".join(finding.sentence for finding in inspect(dataset).findings)


def tied_log(ids: list[str]) -> list[tuple[str, str, int]]:
    return [("a", item, place // 10 + 1) for place, item in enumerate(ids)]


def test_figures_of_a_small_log(write_log) -> None:
    log = write_log([("a", "x", 1), ("a", "y", 1), ("a", "x", 5), ("b", "x", 2), ("b", "x", 2)]).path
    summary = inspect(Dataset.open(log)).log
    assert summary is not None
    assert (summary.events, summary.users, summary.items) == (5, 2, 2)
    assert (summary.first_time, summary.last_time) == (1, 5)
    assert (summary.lengths["shortest"], summary.lengths["longest"]) == (2, 3)
    assert summary.repeat_share == pytest.approx(2 / 5)
    assert summary.duplicates == 1
    assert summary.tied_share == pytest.approx(2 / 3)
    assert summary.tied_ascending_share == 1.0


def test_repeats_of_unknown_time_are_no_duplicates(write_log) -> None:
    rows = [("a", "x", None), ("a", "x", None), ("b", "x", 2), ("b", "x", 2)]
    summary = inspect(write_log(pl.DataFrame(rows, schema=COLUMNS, orient="row").with_row_index("position"))).log
    assert summary is not None and summary.duplicates == 1


@pytest.mark.parametrize("ids", [[f"i{number:03d}" for number in range(40)], [str(number) for number in range(7, 47)]])
def test_an_order_of_identifiers_inside_ties_is_warned_of(ids: list[str], write_log) -> None:
    data = write_log(tied_log(ids))
    assert "stand in ascending order of the item identifier" in sentences(data)
    assert "use ties=shuffle or ties=group" in sentences(data)


def test_an_order_by_chance_is_not(write_log) -> None:
    ids = [f"i{number * 37 % 101:03d}" for number in range(100)]
    assert "ascending" not in sentences(write_log(tied_log(ids)))


def test_odd_things_are_warned_of(write_log) -> None:
    day = 86_400
    rows = [("a", "x", day), ("a", "x", day), ("b", "y", None), ("c", "z", 2 * day)]
    data = write_log(
        rows, items=pl.DataFrame({"item_id": ["x", "x", "y"]}), users=pl.DataFrame({"user_id": ["a", "b", "c"]})
    )
    found = sentences(data)
    for sentence in (
        "1 events have no timestamp and so no place in an order",
        "1 events repeat another one's user, item and timestamp",
        "All timestamps are midnights",
        "item_id is null or stands more than once in items.parquet",
        "1 items of the interactions are not in items.parquet",
    ):
        assert sentence in found
    assert "users of the interactions" not in found


def test_errors_are_found_without_stopping(write_log) -> None:
    frame = pl.DataFrame([("a", "x", 5), ("a", "y", 3), ("b", None, -1)], schema=COLUMNS, orient="row")
    data = write_log(frame.with_columns(position=pl.Series([0, 1, 0], dtype=pl.Int32)))
    errors = [finding.sentence for finding in inspect(data).findings if finding.severity == "error"]
    assert len(errors) == 3
    assert "item_id is null" in errors[0]
    assert "timestamp is negative" in errors[1]
    assert "position contradicts timestamp in 1 places" in errors[2]


def test_an_empty_log_and_a_set_without_users(write_log, tmp_path) -> None:
    summary = inspect(write_log([])).log
    assert summary is not None and (summary.events, summary.repeat_share, summary.first_time) == (0, 0.0, None)
    (tmp_path / "rank").mkdir()
    pl.DataFrame({"query_id": ["q"], "label": [None]}).write_parquet(tmp_path / "rank" / "lists.parquet")
    inspection = inspect(Dataset.open(tmp_path / "rank"))
    assert inspection.log is None
    assert inspection.tables[0].columns == {"query_id": ("String", 0), "label": ("Null", 1)}


@pytest.mark.parametrize(("name", "warned"), [("amazon-beauty", True), ("completejourney", True), ("ml-1m", False)])
def test_real_logs(name: str, warned: bool, real_data) -> None:
    assert ("ascending order" in sentences(real_data(name))) == warned


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["7", "30", "x"]), st.integers(0, 3)), min_size=1),
    st.integers(1, 9),
)
@settings(max_examples=30)
def test_the_figures_of_a_log_do_not_depend_on_how_much_of_it_is_held(rows, held) -> None:
    log = pl.DataFrame(rows, schema=COLUMNS, orient="row").lazy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECASCADE_MEMORY", "1GB")
        whole = summarise(log, len(rows))
        patch.setenv("RECASCADE_MEMORY", str(1_600 * held))
        assert summarise(log, len(rows)) == whole
