from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.bench.compare import compare_runs
from recascade.bench.config import same_run
from recascade.bench.list_source import prepared_lists
from recascade.bench.report.entry import gather
from recascade.bench.report.record import records
from recascade.bench.report.rules import rules_of
from recascade.bench.runner import LocalRunner
from recascade.bench.store import CONFIG_FILE, Run, find_runs
from recascade.bench.suite import configs_of, read_suite
from recascade.bench.sweep import compute, lay_out
from recascade.data.encode import encode
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.errors import ConfigurationError, DataError
from recascade.settings import parse_overrides

# The generated log's users live one after the other, so nobody has events before and after one moment.
SPLIT = {"split.protocol": "ratio"}
SMALL = {"lists.candidates": 20, "lists.window": 2, "lists.initial": "popularity", **SPLIT}
TRAINER = {"trainer.max_epochs": 1, "trainer.tensorboard": False, "model.dimension": 8}


@pytest.fixture
def run(home: Path, tmp_path: Path):
    """Compute runs of a method in this folder: ``run(method, data, **overrides)``."""

    def go(method: str, data: Path, overrides: dict, *, seeds: int = 1) -> list[Run]:
        sweep = lay_out(configs_of(method, str(data), "default", seeds, overrides), tmp_path / "runs", lambda _: None)
        compute(sweep, LocalRunner(2, threads=1), lambda event: None, lambda: None)
        for each in sweep.runs:
            assert Run(each.directory).state == "finished", Run(each.directory).result
        return [Run(each.directory) for each in sweep.runs]

    return go


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A data set of 60 judged queries."""
    random = np.random.default_rng(0)
    lengths = random.integers(3, 9, 60)
    query = np.repeat(np.arange(60), lengths)
    features = random.normal(size=(len(query), 3))
    table = pl.DataFrame(
        {
            "query_id": [f"q{number}" for number in query],
            "doc_id": [f"d{number}" for number in range(len(query))],
            "label": np.clip(np.round(features[:, 0]), 0, 2).astype(np.int8),
            "features": features.astype(np.float32).tolist(),
            "fold": (query % 5).astype(np.int8),
        }
    )
    folder = tmp_path / "judged"
    folder.mkdir()
    table.write_parquet(folder / "lists.parquet")
    return folder


def test_a_re_ranker_runs_is_compared_and_remembers_its_lists(log: Path, run, tmp_path: Path) -> None:
    initial = run("initial-order", log, SMALL)[0]
    prm = run("prm", log, SMALL | TRAINER, seeds=2)
    assert initial.directory.parts[-4] == prm[0].directory.parts[-4]
    result = prm[0].result
    assert result["stage"] == "re-ranking" and result["cost"]["parameters"] > 0
    assert result["cost"]["peak_memory_bytes"] > 5e7 and result["cost"]["latency_ms"]["p50"] > 0
    assert {"ndcg@10", "found_map@5", "auc", "gauc", "ild@10"} <= set(result["metrics"]["test"])
    assert {"ndcg@10"} <= set(result["groups"]["activity"]["low"])
    assert result["overrides"] == {"model.dimension": 8, "trainer.max_epochs": 1, "trainer.tensorboard": False}
    table = pl.read_parquet(prm[0].directory / "metrics.parquet")
    assert result["metrics"]["test"]["ndcg@10"] == pytest.approx(table["ndcg@10"].mean())
    orders = pl.read_parquet(prm[0].directory / "lists.parquet")
    assert orders["list_id"].to_list() == table["list_id"].to_list()
    assert all(sorted(order) == list(range(len(order))) for order in orders["order"].to_list())
    compared = compare_runs([initial.directory, *(each.directory for each in prm)], ["ndcg@10"])
    assert compared.others[0].seeds == [0, 1]
    assert "candidates of popularity" in compared.rules.ranking
    finished, _, _ = records(find_runs(tmp_path / "runs"))
    for entry in gather(finished):
        _, _, method, _, data, *words = shlex.split(entry.command)
        overrides = [word for word in words if "=" in word]
        assert {"lists.candidates=20", "lists.initial=popularity"} <= set(overrides)
        (repeated,) = configs_of(method, data, "default", 1, parse_overrides(overrides))
        assert same_run(repeated, Run(entry.runs[0].directory).config) == [], "the command repeats the run"


def test_the_command_of_a_split_that_is_usual_elsewhere_says_it(judged: Path, run, tmp_path: Path) -> None:
    """Re-ranking splits otherwise than the rest unless told."""
    run("initial-order", judged, {"lists.candidates": 5, "split.protocol": "leave-one-out"})
    (entry,) = gather(records(find_runs(tmp_path / "runs"))[0])
    assert "split.protocol=leave-one-out" in entry.command
    assert "split.targets" not in entry.command, "that is re-ranking's own"


def test_each_fold_is_tested_once(judged: Path, run) -> None:
    found = run("initial-order", judged, {"lists.candidates": 5})[0]
    table = pl.read_parquet(found.directory / "metrics.parquet")
    lists = pl.read_parquet(judged / "lists.parquet")
    with_relevant = lists.group_by("query_id").agg(pl.col("label").max()).filter(pl.col("label") > 0)
    assert set(table["list_id"]) <= set(with_relevant["query_id"]) and table["list_id"].is_unique().all()
    assert len(table) == found.result["split"]["counts"]["test_lists"] > 40
    assert rules_of(records([found])[0][0]).protocol == "folds in turn"
    one = run("initial-order", judged, {"lists.candidates": 5, "lists.test_fold": 2})[0]
    assert one.directory.parts[-4] != found.directory.parts[-4]
    assert {int(name[1:]) % 5 for name in pl.read_parquet(one.directory / "metrics.parquet")["list_id"]} == {2}


def test_logged_impressions_are_lists_too(tmp_path: Path, run) -> None:
    random = np.random.default_rng(1)
    shown = pl.DataFrame(
        {
            "request_id": np.repeat([f"r{number}" for number in range(80)], 3),
            "timestamp": np.repeat(np.arange(80) * 1000, 3),
            "item_id": [f"i{item}" for _ in range(80) for item in random.permutation(9)[:3]],
            "click": random.integers(0, 2, 240),
        }
    )
    (tmp_path / "shown").mkdir()
    shown.write_parquet(tmp_path / "shown" / "impressions.parquet")
    found = run("mmr", tmp_path / "shown", {"split.test_fraction": 0.2})[0]
    assert found.result["split"]["protocol"] == "temporal"
    assert found.result["metrics"]["test"]["ndcg@10"] > 0


def test_lists_are_made_once_by_an_earlier_stage_that_trained_before(log: Path, home: Path) -> None:
    trained = SMALL | {"lists.initial": "gru4rec"}
    config = configs_of("initial-order", str(log), "default", 1, trained)[0]
    first = prepared_lists(config)
    made = {path: path.stat().st_mtime_ns for path in (home / "lists").rglob("*.*")}
    second = prepared_lists(config)
    assert made and made == {path: path.stat().st_mtime_ns for path in (home / "lists").rglob("*.*")}
    assert np.array_equal(first.rounds["all"].scores, second.rounds["all"].scores)
    assert first.ground == second.ground


SPY = """
from dataclasses import dataclass

import numpy as np

from recascade.contracts.method import Method


@dataclass
class Config:
    pass


def fit(experiment):
    from recascade.models.popularity import Popularity

    data = experiment.data
    np.save({path!r}, np.stack([data.train_ends[data.validation.users], data.validation.history_ends]))
    return Popularity.fit(data)


METHOD = Method(name="spy", stage="retrieval", summary="", config=Config, fit="spy_method:fit")
"""


def test_an_earlier_stage_that_trains_chooses_its_weights_inside_its_own_part(log: Path, home: Path, install) -> None:
    seen = home / "seen.npy"
    home.mkdir()
    install("spy_method", SPY.replace("{path!r}", repr(str(seen))), "spy = spy_method:METHOD")
    config = configs_of("initial-order", str(log), "default", 1, SMALL | {"lists.initial": "spy"})[0]
    lists = prepared_lists(config).rounds["all"]
    trained, asked = np.load(seen)
    whole = encode(cached_split(resolve(str(log)), config.split))
    # Its validation targets stand where its training ends, one event before the whole training part does.
    assert np.array_equal(trained, asked)
    assert set(trained + 1) <= set(whole.train_ends)
    assert len(trained) == (whole.train_lengths > 1).sum() and len(lists)


def test_what_cannot_be_run_is_said_before_anything_is_computed(log: Path, home: Path, tmp_path: Path) -> None:
    def lay(method: str = "initial-order", **overrides) -> None:
        keys = SPLIT | {key.replace("_in_", "."): value for key, value in overrides.items()}
        lay_out(configs_of(method, str(log), "default", 1, keys), tmp_path / "runs", lambda _: None)

    with pytest.raises(ConfigurationError, match="serves re-ranking"):
        lay(lists_in_initial="prm")
    with pytest.raises(ConfigurationError, match=r"trainer\.refit"):
        lay(trainer_in_refit=True)
    with pytest.raises(ConfigurationError, match=r"lists\.candidates"):
        lay(lists_in_candidate=5)
    with pytest.raises(ConfigurationError, match="lists"):
        lay("popularity", lists_in_candidates=5)
    with pytest.raises(DataError, match=r"lists\.candidates"):
        lay(lists_in_candidates=2, lists_in_window=1, lists_in_most_lists=1)
    assert not list((tmp_path / "runs").rglob(CONFIG_FILE))


def test_the_suite_that_ships_names_methods_and_variants_that_exist() -> None:
    configs = read_suite("reranking").configs(data="somewhere", seeds=None, overrides={})
    assert {config.method for config in configs} >= {"initial-order", "mmr", "dpp", "dlcm", "prm", "set-rank", "mir"}
    assert all(config.lists is not None for config in configs)
