from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recascade.cli.main import main
from recascade_cs3.planted import planted_stream

SMALL = (
    "stream.label=click",
    "stream.batch=64",
    "model.backbone.hidden=[16]",
    "model.backbone.dimension=8",
    "model.ranker.width=8",
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_stream(tmp_path_factory.mktemp("planted") / "log", events=2_000, seed=0).path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out + printed.err


def test_learn_prints_what_was_measured_and_says_that_the_data_are_synthetic(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    status, printed = run(["cs3", "learn", str(log), "--output", str(tmp_path / "run"), *SMALL], capsys)
    assert status == 0, printed
    assert re.search(r"AUC 0\.\d{4}   GAUC 0\.\d{4}   LogLoss 0\.\d{4}", printed)
    assert "synthetic" in printed
    assert "of the ranker" in printed
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["prequential"]["events"] == 1_000
    # The same command again computes nothing and says the same.
    again = run(["cs3", "learn", str(log), "--output", str(tmp_path / "run"), *SMALL], capsys)
    assert again == (0, printed)


def test_events_of_one_label_can_be_learnt_by_sampled_softmax_alone(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    command = ["cs3", "learn", str(log), "--output", str(tmp_path / "run"), *SMALL[1:]]
    status, printed = run(command, capsys)
    assert status == 2
    assert "All events of the stream have one label" in printed and "stream.negatives=1" in printed
    assert not (tmp_path / "run").exists()
    status, printed = run([*command, "model.loss=sampled_softmax"], capsys)
    assert status == 0, printed
    assert re.search(r"^AUC undefined   GAUC undefined   LogLoss 0\.\d{4}", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variant", "ctss"], "variant 'ctss'. Did you mean 'cts'"),
        (["model.cst.alpha=0.5"], "no configuration key 'model.cst.alpha'. Did you mean 'model.cts.alpha'"),
        (["model.cts.alpha=1.5"], "model.cts.alpha is 1.5"),
        (["stream.label=clik"], "no column 'clik'. Did you mean 'click'"),
        (["stream.batch=0"], "stream.batch is 0"),
    ],
)
def test_a_slip_is_answered_by_a_sentence(
    arguments: list[str], sentence: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed = run(["cs3", "learn", str(log), "--output", str(tmp_path / "run"), *arguments], capsys)
    assert status == 2
    assert sentence in printed
    assert "Traceback" not in printed


def test_the_group_answers_without_torch() -> None:
    code = "import sys; from recascade.cli.main import main; main(['cs3', '--help'])"
    check = "import sys, atexit; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules)));" + code
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "learn" in done.stdout
    assert done.stderr == "False"
