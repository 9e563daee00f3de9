"""The audit finds every planted leak, and nothing in clean data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from mixed_domains import mixed_log

from recascade.data.audit import audit
from recascade.data.dataset import Dataset
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.twin import write_twin
from recascade.errors import DataError

Rows = list[tuple[str, str, int]]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("audit")
    return make_split(mixed_log(folder / "log", users=20), SplitConfig(), folder / "split")


@pytest.fixture
def written(split: Split, tmp_path: Path) -> Callable[..., Dataset]:
    def write(change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows, name: str = "rows") -> Dataset:
        rows = split.part("train").select("user_id", "item_id", "timestamp", "position").collect()
        (tmp_path / name).mkdir()
        change(rows).write_parquet(tmp_path / name / "interactions.parquet")
        return Dataset.open(tmp_path / name)

    return write


def held_out(split: Split, part: str, user: str) -> str:
    return str(split.part(part).filter(pl.col("user_id") == user).collect()["item_id"][0])


def appended(rows: pl.DataFrame, user: str, items: list[str], **columns: str) -> pl.DataFrame:
    last = rows.filter(pl.col("user_id") == user)
    more = pl.DataFrame(
        {
            "user_id": [user] * len(items),
            "item_id": items,
            "timestamp": [int(last["timestamp"].max()) + 1] * len(items),  # type: ignore[arg-type]
            "position": [len(last) + place for place in range(len(items))],
        },
        schema=rows.select("user_id", "item_id", "timestamp", "position").schema,
    ).with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    return pl.concat([rows, more])


def test_training_events_alone_are_clean(split: Split, written: Callable[..., Dataset]) -> None:
    found = audit(written(), split)
    assert (found.count, found.guesses, found.users, found.users_in_rows) == (0, 0, 20, 20)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_held_out_event_in_the_rows_is_a_leak(split: Split, written: Callable[..., Dataset], part: str) -> None:
    item = held_out(split, part, "u003")
    found = audit(written(lambda rows: appended(rows, "u003", ["elsewhere", item])), split)
    assert ("u003", "event", None, item, 1) in found.leaks.rows()
    assert found.leaking_users == 1


def test_the_held_out_event_of_another_user_is_none(split: Split, written: Callable[..., Dataset]) -> None:
    others = set(split.part("test").select("item_id").collect()["item_id"])
    mine = {held_out(split, part, "u003") for part in ("validation", "test")}
    train = split.part("train").filter(pl.col("user_id") == "u003").collect()["item_id"]
    item = sorted(others - mine - set(train))[0]
    assert audit(written(lambda rows: appended(rows, "u003", [item])), split).count == 0


@pytest.mark.parametrize("backward", [False, True])
def test_a_held_out_transition_in_a_made_up_users_row_is_a_leak(
    split: Split, written: Callable[..., Dataset], backward: bool
) -> None:
    history = pl.concat([split.part(name).collect() for name in ("train", "validation", "test")], how="diagonal")
    mine = history.filter(pl.col("user_id") == "u005").sort("position")
    step = mine["item_id"].to_list()[-2:]

    def plant(rows: pl.DataFrame) -> pl.DataFrame:
        owned = rows.with_columns(source_user_id=pl.col("user_id"))
        return pl.concat(
            [
                owned,
                appended(rows.head(0), "made-up", step[:: -1 if backward else 1]).with_columns(
                    source_user_id=pl.lit("u005")
                ),
            ]
        )

    def appended(rows: pl.DataFrame, user: str, items: list[str]) -> pl.DataFrame:
        columns = {"user_id": [user] * 2, "item_id": items, "timestamp": [1, 2], "position": [0, 1]}
        return pl.DataFrame(columns, schema=rows.schema)

    found = audit(written(plant), split)
    assert ("u005", "transition") in found.leaks.select("user_id", "kind").rows()


def test_what_a_model_made_up_counts_as_a_guess(split: Split, written: Callable[..., Dataset]) -> None:
    item = held_out(split, "test", "u003")
    found = audit(
        written(lambda rows: appended(rows.with_columns(origin=pl.lit("original")), "u003", [item], origin="replaced")),
        split,
    )
    assert found.count == 0
    assert (found.guesses, found.guessing_users) == (1, 1)


def test_rows_that_differ_in_the_twin_are_leaks(split: Split, written: Callable[..., Dataset]) -> None:
    twin = written(lambda rows: appended(rows, "u007", ["books-00"]), name="twin")
    found = audit(written(), split, twin)
    assert found.leaks.rows() == [("u007", "twin", None, None, 1)]


def test_only_training_rows_are_looked_at(split: Split, written: Callable[..., Dataset]) -> None:
    item = held_out(split, "test", "u003")
    found = audit(
        written(
            lambda rows: appended(rows.with_columns(split_part=pl.lit("train")), "u003", [item], split_part="test")
        ),
        split,
    )
    assert found.count == 0


def test_data_without_common_users_are_refused(split: Split, written: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="No user of split"):
        audit(written(lambda rows: rows.with_columns(user_id="x" + pl.col("user_id"))), split)


def test_a_twin_has_the_same_training_part_and_other_targets(split: Split, tmp_path: Path) -> None:
    twin = make_split(write_twin(split, tmp_path / "twin"), SplitConfig(ties="file"), tmp_path / "split")
    columns = ["user_id", "item_id", "timestamp", "domain"]
    assert twin.part("train").select(columns).collect().equals(split.part("train").select(columns).collect())
    for part in ("validation", "test"):
        mine, theirs = (each.part(part).select(columns).collect() for each in (split, twin))
        assert mine["domain"].equals(theirs["domain"])
        assert mine["item_id"].sort().equals(theirs["item_id"].sort())
        assert not mine["item_id"].equals(theirs["item_id"])
    half = make_split(
        write_twin(split, tmp_path / "half", parts=("test",)), SplitConfig(ties="file"), tmp_path / "half-split"
    )
    mine, theirs = (each.part("validation").select(columns).collect() for each in (split, half))
    assert mine.equals(theirs)
