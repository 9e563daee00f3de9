from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from gr4ad_runs import SMALL

from recascade.cli.main import main
from recascade.data.dataset import Dataset
from recascade.data.synthetic import markov_log


@pytest.fixture
def ads(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A data set with simulated ads, made by the command."""
    markov_log(tmp_path / "log", users=60, items=30, mean_length=12.0, features=True, seed=1)
    line = ["gr4ad", "simulate", str(tmp_path / "log"), str(tmp_path / "ads"), "--clones", "0.4", "--seed", "5"]
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "synthetic-ads" in said and "clones, seed 5 (synthetic data)" in said
    return tmp_path / "ads"


def test_simulated_ads_are_a_data_set(ads: Path) -> None:
    dataset = Dataset.open(ads)
    items = dataset.items()
    assert dataset.synthetic and items is not None
    assert {"advertiser_id", "conversion_type", "bid"} <= set(items.collect_schema())
    assert items.filter(pl.col("item_id").str.ends_with("-clone")).collect().height > 0


def test_a_run_from_the_command_line_says_that_its_values_are_synthetic(ads: Path, tmp_path: Path) -> None:
    settings = {key: value for key, value in SMALL.items() if key != "trainer.progress"}
    settings |= {"trainer.max_epochs": 1, "model.tokenizer.hash_keys": ["conversion_type", "item_id"]}
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    line = ["run", "gr4ad", "--variant", "rspo", "--data", str(ads), "--output", str(tmp_path / "runs"), *overrides]
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 0
    (result,) = (json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json"))
    assert result["status"] == "finished" and result["data"]["synthetic"]
    assert result["cost"]["synthetic_values"] is True
    (served,) = (json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("served.json"))
    assert served["value_source"] == "catalogue" and served["synthetic_values"]
    assert 0 < result["metrics"]["test"]["recall@10"] <= 1


def test_a_folder_that_is_there_is_not_overwritten(ads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gr4ad", "simulate", str(ads), str(ads.parent / "log")])
    assert ended.value.code == 2 and "Error" in capsys.readouterr().err
