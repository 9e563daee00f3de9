from __future__ import annotations

from pathlib import Path

import pytest

from recascade.bench.runner import LocalRunner
from recascade.bench.suite import configs_of
from recascade.bench.sweep import compute, lay_out
from recascade.cli.display import _newest, print_leaderboards

HEAD = "epoch,step,name,value\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, (0, "")),
        ("", (0, "")),
        (HEAD, (0, "")),
        (HEAD + "1,8,loss,4.25\n", (1, "loss 4.25")),
        (HEAD + "1,8,loss,4.25\n1,8,ndcg@10,0.125\n1,8,memory_bytes,5e8\n", (1, "ndcg@10 0.125")),
        (HEAD + "2,16,ndcg@10,0.125\n3,2", (2, "ndcg@10 0.125")),
        (HEAD + "2,16,ndcg@10,0.125\n3,24,loss,", (0, "")),
    ],
)
def test_the_newest_value_of_curves_that_are_being_written(
    tmp_path: Path, text: str | None, shown: tuple[int, str]
) -> None:
    path = tmp_path / "curves.csv"
    if text is not None:
        path.write_text(text)
    assert _newest(path, "ndcg@10") == shown


def test_settings_with_brackets_are_printed_and_methods_named_by_what_tells_them_apart(
    log: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shared = {"model.retriever": "co-visit", "model.retrieved": 20, "model.reranked": 8}
    chosen = [{**shared, "model.retriever_settings": [f"window={window}"]} for window in (2, 3)]
    configs = [config for settings in chosen for config in configs_of("cascade", str(log), "default", 1, settings)]
    plan = lay_out([*configs, *configs_of("popularity", str(log), "default", 1, {})], tmp_path / "runs", lambda _: None)
    compute(plan, LocalRunner(1, threads=1), lambda _: None, lambda: None)
    print_leaderboards(plan, tmp_path / "runs", "ndcg@10")
    printed = capsys.readouterr().out
    assert "model.retriever_settings=[window=2]" in printed
    assert "model.retrieved=20" not in printed, "both cascades have it"
