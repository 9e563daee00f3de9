from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from scipy import stats

from recascade.bench.compare import compare_runs
from recascade.bench.store import CONFIG_FILE, METRICS_FILE
from recascade.errors import ConfigurationError, DataError


@pytest.fixture
def runs(floors: dict[str, Path]) -> tuple[Path, Path]:
    """Directories of popularity and co-visit on one split."""
    return floors["popularity"], floors["co-visit"]


def test_the_difference_and_test_are_those_of_the_paired_users(runs: tuple[Path, Path]) -> None:
    one, other = (pl.read_parquet(run / METRICS_FILE)["ndcg@10"].to_numpy() for run in runs)
    comparison = compare_runs(runs, ["ndcg@10"])
    assert comparison.reference.method == "popularity"
    found = comparison.differences[0]["ndcg@10"]
    assert found.mean == pytest.approx((other - one).mean(), abs=1e-12)
    assert found.low <= found.mean <= found.high
    assert found.p_value == pytest.approx(stats.ttest_rel(other, one).pvalue, rel=1e-9)


def test_turned_round_the_difference_changes_its_sign(runs: tuple[Path, Path]) -> None:
    there = compare_runs(runs).differences[0]
    back = compare_runs(runs[::-1]).differences[0]
    assert there.keys() == back.keys()
    for metric in there:
        assert there[metric].mean == pytest.approx(-back[metric].mean, abs=1e-12)
        assert there[metric].p_value == pytest.approx(back[metric].p_value, rel=1e-9)


def test_a_folder_of_runs_stands_for_all_in_it(runs: tuple[Path, Path]) -> None:
    comparison = compare_runs([runs[0].parents[1], runs[1].parent])
    assert [entry.method for entry in comparison.others] == ["co-visit"]


def test_folders_may_overlap_in_different_spellings(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs[0].parents[1])
    comparison = compare_runs([runs[0].relative_to(runs[0].parents[1]), runs[0].parents[1], runs[1]])
    assert comparison.reference.method == "popularity"
    assert [entry.method for entry in comparison.others] == ["co-visit"]


def test_different_splits_are_refused(floors: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"not measured alike .*fingerprint"):
        compare_runs([floors["popularity"], floors["another split"]])


def test_different_masking_is_refused(floors: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="seen items"):
        compare_runs([floors["popularity"], floors["masked"]])


def test_nothing_to_compare_with_and_an_unknown_metric_are_named(runs: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="all of one configuration"):
        compare_runs([runs[0], runs[0]])
    with pytest.raises(ConfigurationError, match="Did you mean 'ndcg@10'"):
        compare_runs(runs, ["ndgc@10"])


def test_an_unfinished_run_is_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copyfile(runs[1] / CONFIG_FILE, tmp_path / CONFIG_FILE)
    with pytest.raises(DataError, match=r"No run in .* is finished"):
        compare_runs([runs[0], tmp_path])
