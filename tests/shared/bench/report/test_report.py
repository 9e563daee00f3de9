"""What goes into a leaderboard, what is compared with what, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recascade.bench.report.report import collect
from recascade.errors import ConfigurationError, DataError

MakeRun = Callable[..., Path]


def test_one_row_per_configuration_with_mean_and_deviation_over_seeds(sweep: Path) -> None:
    (board,) = collect(sweep).boards
    assert {entry.label: entry.seeds for entry in board.entries} == {
        "popularity": [0],
        "personal-frequency": [0],
        "gru4rec": [0, 1],
        "sasrec": [0, 1],
    }
    sasrec = next(entry for entry in board.entries if entry.method == "sasrec")
    folder = sweep / "invented-groceries-3f9a1c07d2e845b6/sasrec/default"
    seeds = [pl.read_parquet(folder / f"seed-{seed}/metrics.parquet") for seed in (0, 1)]
    means = pl.Series([table["ndcg@10"].mean() for table in seeds])
    value = sasrec.value("ndcg@10")
    assert value is not None and value.deviation is not None
    assert value.mean == pytest.approx(means.mean(), abs=1e-12)
    assert value.deviation == pytest.approx(means.std(), abs=1e-12)
    popularity = next(entry for entry in board.entries if entry.method == "popularity").value("ndcg@10")
    assert popularity is not None and popularity.deviation is None


def test_difference_is_paired_over_users_after_averaging_seeds(sweep: Path) -> None:
    (board,) = collect(sweep, reference="popularity").boards
    folder = sweep / "invented-groceries-3f9a1c07d2e845b6"
    sasrec = [pl.read_parquet(folder / f"sasrec/default/seed-{seed}/metrics.parquet")["ndcg@10"] for seed in (0, 1)]
    popularity = pl.read_parquet(folder / "popularity/default/seed-0/metrics.parquet")["ndcg@10"]
    expected = ((sasrec[0] + sasrec[1]) / 2 - popularity).mean()
    difference = next(board.to_reference[entry.key] for entry in board.entries if entry.method == "sasrec")["ndcg@10"]
    assert difference.mean == pytest.approx(expected, abs=1e-12)
    assert difference.low < difference.mean < difference.high
    assert difference.verdict == "better"


def test_order_of_rows_in_a_table_of_users_does_not_matter(sweep: Path) -> None:
    before = collect(sweep).boards[0].to_reference
    path = sweep / "invented-groceries-3f9a1c07d2e845b6/sasrec/default/seed-1/metrics.parquet"
    pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=3).write_parquet(path)
    assert collect(sweep).boards[0].to_reference == before


def test_reference_is_the_untrained_method_that_is_best_on_validation(make_run: MakeRun, tmp_path: Path) -> None:
    poor, good = ({"metrics": {"validation": {"ndcg@10": value}}} for value in (0.01, 0.9))
    make_run(tmp_path, "popularity", strength=0.9, trained=False, changes=poor)
    make_run(tmp_path, "item-knn", strength=0.1, trained=False, changes=good)
    make_run(tmp_path, "sasrec", strength=1.5)
    assert collect(tmp_path).boards[0].reference.method == "item-knn"
    assert collect(tmp_path, reference="sasrec").boards[0].reference.method == "sasrec"


def test_configurations_are_chosen_on_validation_never_on_test(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, "popularity", trained=False)
    lucky = {"metrics": {"validation": {"ndcg@10": 0.1}}}
    solid = {"metrics": {"validation": {"ndcg@10": 0.2}}}
    make_run(tmp_path, "sasrec", strength=2.0, overrides={"model.dimension": 32}, changes=lucky)
    make_run(tmp_path, "sasrec", strength=1.0, overrides={"model.dimension": 128}, changes=solid)
    (board,) = collect(tmp_path).boards
    assert sorted(entry.label for entry in board.shown) == ["popularity", "sasrec model.dimension=128"]
    assert [count for count in board.chosen_from.values()] == [2, 2]
    (everything,) = collect(tmp_path, every_configuration=True).boards
    assert len(everything.shown) == 3


def test_splits_and_evaluation_rules_are_never_mixed(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path / "a", "popularity", trained=False)
    make_run(tmp_path / "b", "popularity", trained=False, fingerprint="0123456789abcdef", ties="file")
    make_run(tmp_path / "c", "popularity", trained=False, exclude_seen=True)
    boards = collect(tmp_path).boards
    assert len(boards) == 3
    assert {(board.rules.ties, board.rules.seen_items) for board in boards} == {
        ("shuffle", "may be recommended"),
        ("file", "may be recommended"),
        ("shuffle", "left out"),
    }


def test_settings_that_all_runs_share_are_said_once(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, "popularity", trained=False, overrides={"evaluation.max_users": 100})
    for method in ("sasrec", "hstu"):
        make_run(tmp_path, method, overrides={"evaluation.max_users": 100, "trainer.max_epochs": 3})
    (board,) = collect(tmp_path).boards
    assert {entry.label for entry in board.entries} == {"popularity", "sasrec", "hstu"}
    assert board.shared == "evaluation.max_users=100 trainer.max_epochs=3"
    assert all("evaluation.max_users=100" in entry.command for entry in board.entries)


def test_command_repeats_method_variant_seeds_split_and_overrides(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, "sasrec", seed, variant="sampled", ties="group", overrides={"evaluation.cutoffs": [5, 10]})
    (board,) = collect(tmp_path).boards
    assert board.entries[0].command == (
        "recascade run sasrec --data invented-groceries --variant sampled --seeds 2 split.protocol=last-basket "
        "split.ties=group split.user_min_events=5 split.item_min_events=5 'evaluation.cutoffs=[5, 10]'"
    )


def test_failed_and_unfinished_runs_are_listed_and_never_averaged(sweep: Path, make_run: MakeRun) -> None:
    before = [entry.value("ndcg@10") for entry in collect(sweep).boards[0].entries]
    make_run(sweep, "sasrec", 2, failed="The loss is not a number at step 3.")
    interrupted = make_run(sweep, "sasrec", 3)
    (interrupted / "result.json").unlink()
    report = collect(sweep)
    assert [run.result["error"] for run in report.failed] == ["The loss is not a number at step 3."]
    assert list(report.unfinished) == [interrupted]
    assert [entry.value("ndcg@10") for entry in report.boards[0].entries] == before


def test_runs_on_different_users_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, "popularity", trained=False, users=50)
    make_run(tmp_path, "sasrec", users=60)
    with pytest.raises(DataError, match=r"50 users.*60|60 users.*50"):
        collect(tmp_path)


def test_the_same_seed_twice_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "first", "popularity", trained=False)
    shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(DataError, match="same configuration with the same seed"):
        collect(tmp_path)


def test_a_folder_without_finished_runs_is_refused_with_a_reason(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        collect(tmp_path)
    make_run(tmp_path, "sasrec", failed="The disk is full.")
    with pytest.raises(DataError, match="The disk is full"):
        collect(tmp_path)


def test_unknown_metric_and_reference_name_the_nearest(sweep: Path) -> None:
    with pytest.raises(ConfigurationError, match="ndcg@10"):
        collect(sweep, metric="ndgc@10")
    with pytest.raises(ConfigurationError, match="sasrec"):
        collect(sweep, reference="sasrek")


def test_missing_table_of_users_is_one_sentence(sweep: Path) -> None:
    path = sweep / "invented-groceries-3f9a1c07d2e845b6/sasrec/default/seed-1/metrics.parquet"
    path.unlink()
    with pytest.raises(DataError, match=r"metrics\.parquet is missing"):
        collect(sweep)


def test_a_metric_that_no_run_has_a_value_of_is_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    for method in ("popularity", "sasrec"):
        make_run(tmp_path, method, changes={"metrics": {"test": {"ndcg@5": None, "ndcg@10": 0.1}}})
    (board,) = collect(tmp_path).boards
    assert board.metrics == ("ndcg@10",)
