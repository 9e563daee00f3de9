from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recascade.bench.config import RunConfig, compose
from recascade.bench.needs import check_needs
from recascade.bench.registry import find_method, installed_methods
from recascade.errors import ConfigurationError


@pytest.fixture
def timeless(tmp_path: Path) -> str:
    folder = tmp_path / "timeless"
    folder.mkdir()
    events = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "item_id": ["1", "2", "1", "3"], "position": [0, 1, 0, 1]})
    events.write_parquet(folder / "interactions.parquet")
    return str(folder)


def config(method: str, data: str, **model: Any) -> RunConfig:
    return compose(find_method(method), data=data, overrides={f"model.{key}": value for key, value in model.items()})


@pytest.mark.skipif("cs3" not in installed_methods(), reason="recascade-cs3 is not installed")
def test_data_without_what_a_method_needs_are_refused_also_inside_a_cascade(timeless: str, log: Path) -> None:
    sentence = "Method 'cs3' needs events with a time, but data set 'timeless' has no column 'timestamp'"
    for wrong in (config("cs3", timeless), config("cascade", timeless, retriever="cs3", ranker="hstu")):
        with pytest.raises(ConfigurationError, match=sentence):
            check_needs([config("popularity", timeless), wrong])
    check_needs([config("cs3", str(log)), config("cascade", timeless, retriever="popularity", ranker="hstu")])
