from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.data.synthetic import GENERATED, generate, markov_log


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    logs = [
        markov_log(tmp_path / name, users=50, items=40, features=True, prices=True, seed=seed)
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    ]
    assert logs[0].fingerprint == logs[1].fingerprint != logs[2].fingerprint


def test_events_follow_the_ring_as_often_as_asked(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=2_000, items=500, follow=0.8, skew=0.0, features=True)
    events = log.interactions().collect()
    pairs = events.select("item_id", following=pl.col("item_id").shift(-1).over("user_id")).drop_nulls()
    counted = pairs.group_by("item_id", "following").len().sort("len", descending=True)
    best_two = counted.group_by("item_id").head(2)["len"].sum() / len(pairs)
    assert best_two == pytest.approx(0.8, abs=0.02)


def test_popularity_is_skewed_or_not(tmp_path: Path) -> None:
    share = {}
    for skew in (0.0, 1.0):
        log = markov_log(tmp_path / str(skew), users=1_000, items=200, follow=0.0, skew=skew)
        counts = log.interactions().collect()["item_id"].value_counts(sort=True)["count"]
        share[skew] = counts.head(20).sum() / counts.sum()
    assert share[0.0] < 0.15
    assert share[1.0] > 0.5


def test_lengths_times_and_baskets(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=3_000, items=100, mean_length=15.0, minimum_length=4, basket_size=3.0)
    events = log.interactions().collect()
    lengths = events.group_by("user_id").len()["len"]
    assert lengths.min() == 4
    assert lengths.mean() == pytest.approx(15.0, rel=0.05)
    assert events.select((pl.col("timestamp").diff() >= 0).over("user_id").all()).item()
    baskets = events.select(pl.struct("user_id", "timestamp").n_unique()).item()
    # A user's first event always begins a basket, so the mean is a little below what was asked for.
    assert 2.3 < len(events) / baskets < 3.0


@pytest.mark.parametrize("name", GENERATED)
def test_ready_sets_are_labelled_and_complete(name: str, tmp_path: Path) -> None:
    data = generate(name, tmp_path / name)
    assert data.synthetic and data.name == name
    events = data.interactions().collect()
    assert data.facts["counts"]["interactions"] == len(events)
    if (items := data.items()) is not None:
        table = items.collect()
        assert set(events["item_id"]) <= set(table["item_id"])
        assert table["categories"].dtype == pl.List(pl.String)
    if "value" in events.columns:
        assert np.isfinite(events["value"].to_numpy()).all() and (events["value"] > 0).all()
