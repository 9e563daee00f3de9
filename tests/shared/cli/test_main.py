from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recascade.bench import registry
from recascade.cli.main import COMMANDS, main

HEAVY = "{'torch', 'lightning', 'polars', 'pyarrow', 'numpy', 'scipy', 'rich', 'omegaconf'} & sys.modules.keys()"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call(words, …)`` gives exit status, standard output and standard error, in a fresh folder."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: str) -> tuple[int, str, str]:
        try:
            main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, error = capfd.readouterr()
        return status, out, error

    return run


@pytest.mark.parametrize("line", [["--help"], ["methods"], ["run", "--help"], ["data", "--help"], ["--version"]])
def test_help_and_methods_import_nothing_heavy(line: list[str]) -> None:
    program = (
        "import sys; from recascade.cli.main import main\n"
        f"try: main({line!r})\n"
        f"except SystemExit as end: print('status', end.code, 'heavy', sorted({HEAVY}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "status 0 heavy []"


def test_help_lists_every_command_with_a_line(call: Call) -> None:
    status, out, _ = call("--help")
    assert status == 0
    for command in COMMANDS:
        lines = [line for line in out.splitlines() if line.split()[:1] == [command]]
        assert len(lines) == 1 and len(lines[0].split()) > 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Call, command: str) -> None:
    status, out, _ = call(command, "--help")
    assert status == 0 and out.startswith(f"Usage: recascade {command}")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["bnch"], "There is no command 'bnch'. Did you mean 'bench'?"),
        (["run", "sasrec", "--dta", "x"], "No such option '--dta'"),
        (["run", "sasrec"], "Missing option '--data'"),
        (["run", "sasrek", "--data", "log"], "There is no method 'sasrek'. Did you mean 'sasrec'?"),
        (["run", "sasrec", "--data", "absent"], "There is no data set 'absent'."),
        (["run", "sasrec", "--data", "log", "--variant", "x"], "has no variant 'x'"),
        (["run", "sasrec", "--data", "log", "trainer.max_epoch=3"], "Did you mean 'trainer.max_epochs'?"),
        (["run", "sasrec", "--data", "log", "trainer.max_epochs=x"], "must be a whole number, but 'x' was given"),
        (["run", "sasrec", "--data", "log", "epochs"], "write key=value"),
        (["run", "sasrec", "--data", "log", "--seeds", "0"], "0 is not in the range"),
        (["run", "sasrec", "--data", "log", "--metric", "ndgc@10"], "Did you mean 'ndcg@10'?"),
        (["run", "sasrec", "--data", "log", "--runner", "local", "--ray-address", "auto"], "leave one of them out"),
        (["tokenize", "log", "--runner", "ray"], "--runner ray goes with --codebooks TABLE"),
        (["tokenize", "new.parquet", "--codebooks", "x", "tokenizer.salt=1"], "leave tokenizer.salt=1 out"),
        (["tokenize", "new.parquet", "--codebooks", "absent.parquet"], "There is no file absent.parquet"),
        (["bench", "demos"], "There is no suite 'demos'. Did you mean 'demo'?"),
        (["bench", "absent.yaml"], "There is no suite file absent.yaml"),
        (["ablate", "sasrec", "dimension", "--data", "log"], "is not an axis"),
        (["compare", "absent"], "There is no folder absent"),
        (["methods", "sasrek"], "Did you mean 'sasrec'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(home: Path, call: Call, line: list[str], sentence: str) -> None:
    status, _, error = call(*line)
    assert status == 2
    assert sentence in error
    assert "Traceback" not in error


def test_debug_shows_where(home: Path, call: Call) -> None:
    from recascade.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        call("run", "sasrek", "--data", "log", "--debug")


def test_an_output_that_is_no_folder_is_named(home: Path, log: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, error = call("run", "popularity", "--data", str(log), "--output", "file/runs")
    assert status == 2
    assert "file/runs" in error and "Traceback" not in error


def test_an_error_of_the_system_without_a_file_is_one_sentence(home: Path, call: Call, monkeypatch) -> None:
    """As when the output goes to a full disk."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recascade.cli.methods.command.callback", full)
    status, _, error = call("methods")
    assert (status, error) == (2, "Error: Reading or writing failed: No space left on device.\n")
    with pytest.raises(OSError, match="No space left"):
        call("methods", "--debug")


def test_methods_lists_what_runs_and_how_to_install_the_rest(
    acme: None, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_psad = [point for point in registry.entry_points(group=registry.GROUP) if point.name != "psad"]
    monkeypatch.setattr(registry, "entry_points", lambda group: without_psad)
    status, out, _ = call("methods")
    assert status == 0
    assert "acme" in out and "a third party's method" in out
    assert 'pip install "recascade[psad]"' in out


def test_a_method_is_described_by_its_keys(acme: None, call: Call) -> None:
    _, out, _ = call("methods", "acme")
    assert "variants default, wide" in out
    assert "axis depth=1,2,3" in out
    assert "  model.width=8" in out.splitlines()


def test_a_failed_run_is_status_1_and_its_sentence(home: Path, log: Path, acme: None, call: Call) -> None:
    status, out, error = call("run", "acme", "--data", str(log), "model.behaviour=diverge")
    assert status == 1
    assert "The loss is not a number at step 3; lower trainer.learning_rate." in error
    assert "Traceback" not in error and "ndcg" not in out


def test_settings_of_training_are_shown_although_no_run_is_trained(home: Path, log: Path, call: Call) -> None:
    line = ["ablate", "popularity", "trainer.max_epochs=1,2", "--data", str(log), "--jobs", "1"]
    status, out, error = call(*line)
    assert status == 0, error
    assert "popularity" in out


def test_doctor_finds_this_installation_well(home: Path, log: Path, call: Call) -> None:
    status, out, _ = call("doctor", "--data", str(log))
    assert status == 0, out
    for subject in ("recascade:", "dependencies:", "methods:", "devices:", "cache:", "trial run:", f"data {log}:"):
        assert subject in out


def test_doctor_names_what_is_wrong(home: Path, call: Call, install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("broken_one", "raise ImportError('no such CUDA')", "broken = broken_one:METHOD")
    monkeypatch.setenv("RECASCADE_DATA", "/nowhere/at/all")
    status, out, _ = call("doctor", "--data", "absent")
    problems = [line for line in out.splitlines() if line.lstrip().startswith("PROBLEM")]
    assert status == 1
    assert len(problems) == 3
    assert "no such CUDA" in problems[0]
    assert "/nowhere/at/all is no folder" in problems[1]
    assert "There is no data set 'absent'" in problems[2]
