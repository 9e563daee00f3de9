from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recascade.bench.report.report import collect
from recascade.bench.report.tables import csv_table, markdown

MakeRun = Callable[..., Path]


def test_csv_holds_every_configuration_and_metric_in_full_precision(ablation: Path) -> None:
    report = collect(ablation)
    (board,) = report.boards
    table = pl.read_csv(io.StringIO(csv_table(report)))
    assert table.select("overrides", "metric").n_unique() == len(table) == 6 * len(board.test_metrics())
    for entry in board.entries:
        row = table.filter(pl.col("overrides").fill_null("") == entry.override_text, metric="ndcg@10").row(
            0, named=True
        )
        value = entry.value("ndcg@10")
        assert value is not None
        assert (row["test_mean"], row["test_sd"]) == (value.mean, value.deviation)
        assert row["fit_cpu_seconds"] == entry.cost["fit_cpu_seconds"].mean
        assert row["split"] == board.rules.fingerprint
        assert row["synthetic"] is True


def test_csv_differences_are_those_of_the_leaderboard(sweep: Path) -> None:
    report = collect(sweep)
    table = pl.read_csv(io.StringIO(csv_table(report))).filter(method="sasrec", metric="hit_rate@10").row(0, named=True)
    sasrec = next(entry for entry in report.boards[0].entries if entry.method == "sasrec")
    difference = report.boards[0].to_reference[sasrec.key]["hit_rate@10"]
    assert table["difference"] == pytest.approx(difference.mean, abs=1e-15)
    assert table["p_holm"] == pytest.approx(difference.p_value)
    assert table["reference"] == "personal-frequency"


def test_markdown_tables_are_rectangular_and_name_their_rules(sweep: Path, make_run: MakeRun) -> None:
    make_run(sweep, "popularity", trained=False, fingerprint="0123456789abcdef", ties="file")
    make_run(sweep, "tiger", failed="A | bar\nand a line break.")
    text = markdown(collect(sweep), "Title")
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    for position, part in enumerate(text.split("\n\n")):
        if part.startswith("|") and "ties shuffle" not in part:
            note = text.split("\n\n")[position + 1]
            assert "Split 3f9a1c07d2e845b6 · ties: shuffle" in note or "Split 0123456789abcdef · ties: file" in note
            assert "cold items: miss" in note and "filter: " in note and "seen items: may be recommended" in note
    assert "under 2 tie rules" in text
    assert "A \\| bar and a line break." in text
    assert "(synthetic data)" in text


def test_markdown_ranks_best_first(sweep: Path) -> None:
    lines = [line for line in markdown(collect(sweep), "Title").splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[1] for line in lines[2:6]] == ["sasrec", "gru4rec", "personal-frequency", "popularity"]
