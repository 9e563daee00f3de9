from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recascade.data.split_config import SplitConfig, parse_time
from recascade.data.split_manifest import SplitManifest
from recascade.errors import ConfigurationError, DataError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-06-01", 1496275200),
        ("2017-06-01T12:00", 1496318400),
        ("2017-06-01T12:00+02:00", 1496311200),
        ("86400", 86400),
        ("", None),
    ],
)
def test_times(text: str, seconds: int | None) -> None:
    assert parse_time(text, "split.since") == seconds


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"ties": "shuffel"}, "split.ties=shuffel is not possible. Did you mean 'shuffle'"),
        ({"tie": "file"}, "no key 'split.tie'. Did you mean 'ties'"),
        ({"seed": "a"}, "split.seed must be a whole number, but 'a'"),
        ({"test_fraction": "half"}, "split.test_fraction must be a number"),
        ({"split.ties": "file", "ties": "file"}, "'split.ties' is given twice"),
        ({"since": "yesterday"}, "split.since=yesterday is no time"),
        ({"minimum_history": "-1"}, "split.minimum_history=-1 is negative"),
        ({"test_fraction": "0.5", "validation_fraction": "0.5"}, "leave nothing to train on"),
    ],
)
def test_what_is_impossible_is_named(words: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SplitConfig.from_words(words)
    assert sentence in str(caught.value)


def test_words_set_typed_values() -> None:
    words = {"split.ties": "group", "seed": "3", "test_fraction": "0.2", "since": "2017-01-01"}
    assert SplitConfig.from_words(words) == SplitConfig(ties="group", seed=3, test_fraction=0.2, since="2017-01-01")


def test_manifests_come_back_and_damage_is_named(tmp_path: Path) -> None:
    manifest = SplitManifest(
        dataset="log",
        dataset_fingerprint="ab",
        synthetic=True,
        terms="free",
        config=SplitConfig(user_min_events=5),
        times={"test_time": 3},
        counts={"read": 7},
        tied_target_share=0.25,
        fingerprint="0123456789abcdef",
    )
    path = tmp_path / "split.json"
    manifest.save(path)
    assert SplitManifest.load(path) == manifest
    assert manifest.filters == {"user_min_events": 5, "minimum_history": 1}
    whole = path.read_text()
    path.write_text(whole.replace('"times"', '"tides"'))
    with pytest.raises(DataError, match=r"split.json lacks a field or has one too many .*make the split again"):
        SplitManifest.load(path)
    path.write_text(whole.replace('"format": 1', '"format": 0'))
    with pytest.raises(DataError, match="another format"):
        SplitManifest.load(path)


def test_import_is_cheap() -> None:
    code = (
        "import sys, recascade.data.split_config, recascade.data.split_manifest;"
        "print([name for name in ('torch', 'polars', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
