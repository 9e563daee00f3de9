"""``recascade data audit``, ``twin`` and ``domains`` as typed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from mixed_domains import mixed_log

from recascade.cli.data import command
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log ``log``, its split ``split``, and its training events ``clean``."""
    split = make_split(mixed_log(tmp_path / "log", users=10), SplitConfig(), tmp_path / "split")
    (tmp_path / "clean").mkdir()
    split.part("train").select("user_id", "item_id", "timestamp").sink_parquet(tmp_path / "clean/interactions.parquet")
    return tmp_path


def test_a_leak_ends_the_audit_with_status_1(folder: Path) -> None:
    against = ["--against", str(folder / "split")]
    clean = CliRunner().invoke(command, ["audit", str(folder / "clean"), *against])
    assert clean.exit_code == 0
    assert "0 leaks." in clean.output
    whole = CliRunner().invoke(command, ["audit", str(folder / "log"), *against])
    assert whole.exit_code == 1
    assert "has the held-out event of" in whole.output
    assert "leaks of 10 users" in whole.output
    tolerated = CliRunner().invoke(command, ["audit", str(folder / "log"), *against, "--most", "1000"])
    assert tolerated.exit_code == 0


def test_the_twin_of_a_split_is_written(folder: Path) -> None:
    result = CliRunner().invoke(command, ["twin", str(folder / "split"), str(folder / "twin"), "--part", "test"])
    assert result.exit_code == 0
    logs = [pl.read_parquet(folder / name / "interactions.parquet") for name in ("log", "twin")]
    assert len(logs[0]) == len(logs[1])
    assert not logs[0]["item_id"].equals(logs[1]["item_id"])
    with pytest.raises(ConfigurationError, match="Did you mean 'test'"):
        CliRunner().invoke(
            command, ["twin", str(folder / "split"), str(folder / "x"), "--part", "tests"], catch_exceptions=False
        )


def test_domains_come_from_a_column_of_the_catalogue(folder: Path) -> None:
    log = pl.read_parquet(folder / "log/interactions.parquet")
    items = log.select("item_id", kind=pl.col("domain")).unique()
    items.write_parquet(folder / "log/items.parquet")
    words = ["domains", str(folder / "log"), "kind", "--keep", "books", "-o", str(folder / "made")]
    assert CliRunner().invoke(command, words).exit_code == 0
    assert set(pl.read_parquet(folder / "made/interactions.parquet")["domain"]) == {"books"}
