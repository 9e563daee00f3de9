from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from recascade.cli.data import command
from recascade.errors import RecascadeError

pytestmark = pytest.mark.usefixtures("home")


def run(*words: str | Path) -> str:
    result = invoke(*words)
    if result.exception is not None:
        raise result.exception
    return result.output


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_help_and_unknown_commands() -> None:
    commands = run("--help").partition("Commands:")[2]
    assert re.findall(r"^  (\w+) ", commands, re.MULTILINE) == [
        "list", "fetch", "import", "inspect", "filter", "domains", "split", "twin", "audit",
    ]  # fmt: skip
    result = invoke("spilt")
    assert result.exit_code == 2
    assert "no command 'data spilt'. Did you mean 'split'" in result.output


def test_list_names_sets_and_adapters_with_options() -> None:
    listed = run("list")
    for word in ("completejourney", "synthetic-small", "movielens", "delimited", "time_format=…", "RECASCADE_DATA"):
        assert word in listed


def test_from_a_file_to_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"u{place % 9},i{place * place % 7},{1_500_000_000 + place}" for place in range(200)]
    Path("log.csv").write_text("customer,sku,at\n" + "\n".join([*lines, "rare,i1,1500000000"]) + "\n")
    output = run("import", "delimited", "log.csv", "shop", "user=customer", "item=sku", "timestamp=at")
    assert "Wrote 201 events of 10 users and 4 items to shop." in output
    assert re.search(r"users +10\n", run("inspect", "shop"))
    output = run("filter", "shop", "--k-core", "5")
    assert re.search(r"dropped by core +1\n", output)
    assert pl.read_parquet("shop-filtered/interactions.parquet").height == 200
    output = run("split", "./shop-filtered", "ties=file", "-o", "out")
    assert re.match(r"split [0-9a-f]{16} of shop-filtered\nleave-one-out, ties=file, catalogue=training", output)
    assert {entry.name for entry in Path("out").iterdir()} >= {"train.parquet", "test.parquet", "split.json"}


def test_the_cached_split_is_where_runs_find_it(log: Path, home: Path) -> None:
    first, second = run("split", log), run("split", log, "split.ties=shuffle")
    assert first == second
    assert str(home / "splits") in first
    assert run("split", log, "ties=group") != first


def test_filter_steps_by_option(log: Path, tmp_path: Path) -> None:
    output = run(
        "filter", log, "--since", "2024-03-01", "--until", "2024-06-01", "--deduplicate", "first",
        "--user-min-events", "3", "-o", tmp_path / "out",
    )  # fmt: skip
    for step in ("dropped by time", "dropped duplicates", "dropped by core", "kept"):
        assert re.search(rf"{step} +[\d,]+\n", output)
    times = pl.read_parquet(tmp_path / "out" / "interactions.parquet")["timestamp"]
    assert times.min() >= 1709251200 and times.max() < 1717200000


def test_inspect_shows_warnings_and_fails_on_errors(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", None], "timestamp": [86_400, 86_400]})
    frame.write_parquet(tmp_path / "interactions.parquet")
    result = invoke("inspect", tmp_path)
    assert result.exit_code == 2
    assert "item_id    String, 1 null" in result.output
    assert "error: interactions.parquet, item_id: in 1 row, first in row 2" in result.output
    assert "warning: interactions.parquet, timestamp: All timestamps are midnights" in result.output


def test_a_set_without_users_can_be_inspected(tmp_path: Path) -> None:
    pl.DataFrame({"query_id": ["q"], "doc_id": ["d"], "label": [1]}).write_parquet(tmp_path / "lists.parquet")
    assert "lists.parquet, 1 rows" in run("inspect", tmp_path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "synthetic-smal"], "There is no data set 'synthetic-smal'. Did you mean 'synthetic-small'"),
        (["split", "synthetic-small", "ties"], "'ties' is not a setting; write key=value"),
        (["split", "synthetic-small", "tie=file"], "no key 'split.tie'. Did you mean 'ties'"),
        (["split", "synthetic-small", "ties=file", "ties=group"], "'ties' is given twice"),
        (["split", "synthetic-small", "user_min_events=9999"], "is left after filtering"),
        (["filter", "synthetic-small", "--deduplicate", "frist"], "split.deduplicate=frist is not possible"),
        (["import", "delimted", "a", "b"], "no adapter 'delimted'. Did you mean 'delimited'"),
        (["import", "delimited", "nowhere.csv", "b"], "There is no file nowhere.csv"),
    ],
)
def test_mistakes_are_errors_for_the_user(words: list[str], sentence: str) -> None:
    with pytest.raises(RecascadeError) as caught:
        run(*words)
    assert sentence in str(caught.value)
