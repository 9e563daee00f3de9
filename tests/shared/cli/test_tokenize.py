from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from recascade.cli.tokenize import command
from recascade.errors import ConfigurationError
from recascade.tokenizers.semantic_ids_file import load_semantic_ids
from recascade.tokenizers.text_encoder import TextEncoder

pytestmark = pytest.mark.usefixtures("home")

SMALL = ("tokenizer.sizes=[8,4,4]", "tokenizer.content.dimension=8")


@pytest.fixture
def shop(log: Path, tmp_path: Path) -> Path:
    """The generated log with texts."""
    folder = tmp_path / "shop"
    folder.mkdir()
    events = pl.read_parquet(log / "interactions.parquet")
    events.write_parquet(folder / "interactions.parquet")
    items = events["item_id"].unique().sort()
    words = ["tea", "bike", "lamp", "blue", "old"]
    texts = [f"{words[place % 3]} {words[place % 5]}" for place in range(len(items))]
    pl.DataFrame({"item_id": items, "text": texts}).write_parquet(folder / "items.parquet")
    return folder


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_ids_are_written_and_measured(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(shop, "--tokenizer", "ua-sid", "--encoder", "encoder.parquet", "--drawing", "codes.svg", *SMALL)
    assert result.exception is None, result.output
    for pattern in (r"items +30 ", r"ids +\d+ +of 128 possible \(8 × 4 × 4\)", r"compression +1\.\d+", r"3 hashed +4 "):
        assert re.search(pattern, result.output), pattern
    assert "The hashed level stands for item_id." in result.output
    ids = load_semantic_ids(Path("shop-ua-sid.parquet"))
    assert (ids.sizes, len(ids)) == ((8, 4, 4), 30)
    assert TextEncoder.load(Path("encoder.parquet")).terms.height > 0
    assert Path("codes.svg").read_text().startswith("<svg")
    assert "Wrote shop-ua-sid.parquet.\nWrote encoder.parquet.\nWrote codes.svg.\n" in result.output


def test_figures_leave_the_digit_out(shop: Path, tmp_path: Path) -> None:
    result = invoke(shop, "--output", tmp_path / "ids.parquet", "--drawing", tmp_path / "codes.html", *SMALL)
    assert "possible (8 × 4 × 4)" in result.output
    assert re.search(r"4 digit +256 ", result.output)
    assert "before the digit" in (tmp_path / "codes.html").read_text()
    assert load_semantic_ids(tmp_path / "ids.parquet").sizes == (8, 4, 4, 256)


def test_the_seed_and_the_settings_decide(shop: Path, tmp_path: Path) -> None:
    tables = []
    for name, words in (("one", ()), ("two", ()), ("three", ("--seed", "1"))):
        path = tmp_path / f"{name}.parquet"
        assert invoke(shop, "--output", path, *SMALL, *words).exception is None
        tables.append(load_semantic_ids(path).codes.tolist())
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tokenizer", "ua-sit"), "Did you mean 'ua-sid'"),
        (("tokenizer.sizs=[4]",), "Did you mean 'tokenizer.sizes'"),
        (("tokenizer.name=ua-sid",), "with --tokenizer"),
        (("split.ties=maybe",), "split.ties=maybe is not possible"),
        (("--drawing", "codes.pdf"), "must end in .svg or .html"),
        (("tokenizer.sizes=[64]",), "only 30 items"),
    ],
)
def test_mistakes_are_named(words: tuple[str, ...], sentence: str, shop: Path) -> None:
    result = invoke(shop, *words)
    assert isinstance(result.exception, ConfigurationError)
    assert sentence in str(result.exception)
