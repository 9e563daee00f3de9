"""A ledger holds every prediction once, also after a crash, and its summary equals the definitions."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.errors import DataError, TrainingError
from recascade.evaluation.click_metrics import auc, gauc, log_loss
from recascade.evaluation.prequential import PrequentialLedger
from recascade.evaluation.prequential_metrics import prior_counts, relative_improvement, summarise

SIZE = 8


def batch(offset: int, *, count: int = SIZE, ranker: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(offset)
    return {
        "offset": offset,
        "users": random.integers(0, 5, count),
        "items": random.integers(0, 7, count),
        "timestamps": offset + np.arange(count),
        "labels": (random.random(count) < 0.4).astype(np.float32),
        "probabilities": random.random(count, dtype=np.float32),
        "ranker_probabilities": random.random(count, dtype=np.float32) if ranker else None,
    }


def filled(directory: Path, batches: int, *, flush_every: int = 3) -> PrequentialLedger:
    ledger = PrequentialLedger(directory)
    for number in range(batches):
        ledger.append(**batch(number * SIZE))
        if (number + 1) % flush_every == 0:
            ledger.flush()
    return ledger


@settings(max_examples=25)
@given(batches=st.integers(0, 12), back=st.integers(0, 12), flush_every=st.integers(1, 5))
def test_a_crash_leaves_every_event_once(
    tmp_path_factory: pytest.TempPathFactory, batches: int, back: int, flush_every: int
) -> None:
    directory = tmp_path_factory.mktemp("ledger")
    whole = filled(tmp_path_factory.mktemp("whole"), 12).table()
    filled(directory, batches, flush_every=flush_every)
    restored = PrequentialLedger(directory)  # what was not flushed is lost, as in a crash
    known = (restored.last_offset + SIZE) // SIZE if restored.last_offset >= 0 else 0
    start = min(back, known)
    restored.truncate(start * SIZE)
    for number in range(start, 12):
        restored.append(**batch(number * SIZE))
    assert restored.table().equals(whole)
    restored.flush()
    assert PrequentialLedger(directory).table().equals(whole)


def test_an_event_is_not_recorded_twice(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 4)
    for again in (ledger, PrequentialLedger(tmp_path)):
        with pytest.raises(TrainingError, match=r"offset 16 .*truncate\(16\)"):
            again.append(**batch(2 * SIZE))
    assert len(ledger.table()) == 4 * SIZE


def test_truncating_reaches_what_is_not_written_yet(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 5, flush_every=2)
    ledger.truncate(3 * SIZE)
    assert ledger.table()["offset"].unique().sort().to_list() == [0, SIZE, 2 * SIZE]
    assert ledger.last_offset == 2 * SIZE
    ledger.truncate(0)
    assert len(ledger.table()) == 0
    assert ledger.last_offset == -1


def test_the_arrays_may_be_used_again(tmp_path: Path) -> None:
    ledger = PrequentialLedger(tmp_path)
    rows = batch(0)
    ledger.append(**rows)
    expected = rows["probabilities"].tolist()
    rows["probabilities"][:] = 0.5
    assert ledger.table()["probability"].to_list() == expected


def test_batches_may_be_empty_or_without_a_ranker(tmp_path: Path) -> None:
    ledger = PrequentialLedger(tmp_path)
    ledger.append(**batch(0, count=0))
    ledger.flush()
    ledger.append(**batch(SIZE, ranker=False))
    ledger.append(**batch(2 * SIZE))
    ledger.flush()
    assert ledger.table()["ranker_probability"].is_null().to_list() == [True] * SIZE + [False] * SIZE
    assert [path.name for path in sorted((tmp_path / "predictions").iterdir())] == ["000000000000008.parquet"]


@pytest.mark.parametrize("name", ["probabilities", "ranker_probabilities"])
@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
def test_what_is_no_probability_is_refused(tmp_path: Path, name: str, value: float) -> None:
    ledger = PrequentialLedger(tmp_path)
    rows = batch(0)
    rows[name][3] = value
    with pytest.raises(TrainingError, match=r"Event 3 .* batch at offset 0"):
        ledger.append(**rows)
    assert ledger.last_offset == -1


def test_a_foreign_file_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "predictions" / "000000000000000.parquet")
    with pytest.raises(DataError, match="is no segment"):
        PrequentialLedger(tmp_path)


def test_the_summary_equals_the_definitions(tmp_path: Path) -> None:
    table = filled(tmp_path, 50).table()
    summary = summarise(table, warm_up=0.4, windows=7)
    late = table[160:]
    labels = late["label"].to_numpy() > 0
    for values, column in ((summary, "probability"), (summary["ranker"], "ranker_probability")):
        scores = late[column].to_numpy()
        assert values["events"] == 240
        assert values["auc"] == pytest.approx(auc(labels, scores))
        assert values["gauc"] == pytest.approx(gauc(labels, scores, late["user"].to_numpy()))
        assert values["log_loss"] == pytest.approx(log_loss(labels, scores))
        assert values["positives_share"] == pytest.approx(labels.mean())
    windows = summary["windows"]
    assert [windows[0]["first"], windows[-1]["end"]] == [0, 400]
    assert all(one["end"] == other["first"] for one, other in pairwise(windows))
    third = table[windows[2]["first"] : windows[2]["end"]]
    assert windows[2]["auc"] == pytest.approx(auc(third["label"].to_numpy() > 0, third["probability"].to_numpy()))
    json.dumps(summary, allow_nan=False)


def test_buckets_know_only_what_came_before(tmp_path: Path) -> None:
    table = filled(tmp_path, 20).table()
    summary = summarise(table, warm_up=0.0, cold=2)
    seen: dict[int, int] = {}
    cold = []
    for item in table["item"].to_list():
        cold.append(seen.get(item, 0) <= 2)
        seen[item] = seen.get(item, 0) + 1
    chosen = table.filter(pl.Series(cold))
    bucket = summary["buckets"]["cold_items"]
    assert bucket["events"] == len(chosen) == 21
    assert bucket["auc"] == pytest.approx(auc(chosen["label"].to_numpy() > 0, chosen["probability"].to_numpy()))
    sizes = {name: values["events"] for name, values in summary["buckets"].items()}
    assert sizes["cold_users"] + sizes["warm_users"] == sizes["cold_items"] + sizes["warm_items"] == 160
    terciles = [sizes[f"{name}_items"] for name in ("rare", "middle", "popular")]
    assert sum(terciles) == 160
    assert max(terciles) - min(terciles) <= 7 * 2


def test_the_warm_up_leaves_later_predictions_alone(tmp_path: Path) -> None:
    table = filled(tmp_path, 10).table()
    first = pl.int_range(len(table)) < 40
    other = table.with_columns(probability=pl.when(first).then(0.5).otherwise("probability"))
    changed, same = summarise(other), summarise(table)
    assert changed["auc"] == same["auc"]
    assert changed["windows"][0]["log_loss"] != same["windows"][0]["log_loss"]


def test_what_is_undefined_is_none(tmp_path: Path) -> None:
    ledger = PrequentialLedger(tmp_path)
    ledger.append(**batch(0, ranker=False) | {"labels": np.ones(SIZE)})
    summary = summarise(ledger.table(), warm_up=0)
    assert summary["auc"] is None
    assert "ranker" not in summary
    assert summary["buckets"]["warm_users"]["log_loss"] is None
    with pytest.raises(DataError, match="0 events"):
        summarise(PrequentialLedger(tmp_path / "empty").table())


@given(ids=st.lists(st.integers(-1, 5), max_size=30))
def test_prior_counts_count(ids: list[int]) -> None:
    assert prior_counts(np.array(ids, dtype=np.int64)).tolist() == [ids[:at].count(x) for at, x in enumerate(ids)]


def test_relative_improvement_is_relative_to_chance() -> None:
    assert relative_improvement(0.7, 0.7) == 0
    assert relative_improvement(0.5, 0.7) == -1
    assert relative_improvement(0.9, 0.7) == pytest.approx(1)
