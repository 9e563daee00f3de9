"""The planted log holds what its recipe says, and its best AUC is the one it states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.stream_config import StreamConfig
from recascade.data.stream_preparation import prepare_stream, read_stream_facts
from recascade.errors import ConfigurationError
from recascade.evaluation.click_metrics import auc
from recascade_cs3.planted import PRESETS, expected_auc, planted_stream


@given(logits=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]), min_size=2, max_size=12))
def test_the_bayes_auc_is_that_of_all_pairs(logits: list[float]) -> None:
    clicked = [1 / (1 + np.exp(-logit)) for logit in logits]
    above = pairs = 0.0
    for one, p in enumerate(clicked):
        for other, q in enumerate(clicked):
            if one != other:
                weight = p * (1 - q)
                pairs += weight
                above += weight * (1.0 if p > q else 0.5 if p == q else 0.0)
    assert expected_auc(np.array(logits)) == pytest.approx(above / pairs, abs=1e-12)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("drift", [False, True])
def test_the_log_is_what_the_preset_says(tmp_path: Path, preset: str, drift: bool) -> None:
    data = planted_stream(tmp_path / "log", preset, drift)
    events = data.interactions().collect()
    size = PRESETS[preset]
    assert data.synthetic
    assert len(events) == size.events
    assert events["timestamp"].is_unique().all() and events["timestamp"].is_sorted()
    assert events["click"].mean() == pytest.approx(size.click_rate, abs=0.005)
    labels, logits = events["click"].to_numpy() > 0, events["oracle_logit"].to_numpy()
    # The stated AUC is that of the logits, as far as the float32 of the file and the drawn labels allow.
    assert data.facts["oracle_auc"] == pytest.approx(auc(labels, logits), abs=1e-5)
    assert data.facts["bayes_auc"] == pytest.approx(data.facts["oracle_auc"], abs=0.006)
    assert 0.80 < data.facts["bayes_auc"] < 0.87
    # Clicks come as often as the logits say.
    deciles = np.argsort(logits).reshape(10, -1)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for decile in deciles:
        assert labels[decile].mean() == pytest.approx(expected[decile].mean(), abs=0.025)


def test_only_a_drifting_taste_moves(tmp_path: Path) -> None:
    def spread(drift: bool) -> float:
        events = planted_stream(tmp_path / f"{drift}", "dense", drift).interactions().collect()
        repeated = events.group_by("user_id", "item_id").agg(
            pl.col("oracle_logit").max() - pl.col("oracle_logit").min()
        )
        return float(repeated["oracle_logit"].max())  # type: ignore[arg-type]

    assert spread(False) < 1e-6
    assert spread(True) > 1


def test_features_tell_something_of_the_taste_and_not_all(tmp_path: Path) -> None:
    data = planted_stream(tmp_path / "log")
    users, items = data.users(), data.items()
    assert users is not None and items is not None
    table = users.collect()
    assert table.columns == ["user_id", "taste_0", "taste_1", "taste_2", "taste_3"]
    for name in table.columns[1:]:
        counts = table[name].value_counts()["count"]
        assert len(counts) == 8
        assert counts.max() - counts.min() <= 1  # type: ignore[operator]
    catalogue = items.collect()
    assert catalogue["style"].n_unique() == 16
    assert catalogue["categories"].list.unique().list.len().unique().to_list() == [2]
    assert 10 <= catalogue["categories"].explode().n_unique() <= 19
    # First coordinates agree: users and items at the same end of the first axis click more.
    ends = (
        data.interactions()
        .join(users, on="user_id")
        .join(items, on="item_id")
        .group_by((pl.col("taste_0") == "taste 7").alias("user"), pl.col("style").is_in(["style 15", "style 14"]))
        .agg(pl.col("click").mean(), pl.len())
        .collect()
    )
    rates = {(user, item): rate for user, item, rate, _ in ends.iter_rows()}
    assert rates[True, True] / rates[False, True] > 1.5 * rates[True, False] / rates[False, False]


def test_a_seed_gives_one_log(tmp_path: Path) -> None:
    first, again, other = (
        planted_stream(tmp_path / name, "sparse", events=500, seed=seed)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.facts == again.facts


def test_it_streams_as_it_is(tmp_path: Path) -> None:
    data = planted_stream(tmp_path / "log", events=300)
    path = prepare_stream(data, StreamConfig(label="click"), tmp_path / "streams")
    facts, events = read_stream_facts(path), data.interactions().collect()
    assert facts["synthetic"] is True
    stream = pl.read_parquet(path)
    assert stream["timestamp"].equals(events["timestamp"])
    assert stream["label"].to_list() == events["click"].to_list()


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'dense'"):
        planted_stream(tmp_path / "log", "dens")
    with pytest.raises(ConfigurationError, match="0 events"):
        planted_stream(tmp_path / "log", events=0)
