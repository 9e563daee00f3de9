from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recascade.cli.main import main

GREETER = '''
"""A method that only serves: it greets, from a file of its run directory."""

from dataclasses import dataclass

from recascade.contracts.method import Method


@dataclass
class Config:
    """Nothing to set."""


def serve(directory, options):
    from recascade.serving.http import Route, application
    from recascade.serving.metrics import Metrics

    greeting = (directory / "greeting.txt").read_text()
    return application([Route("GET", "/greet", lambda values: greeting + options["name"])], Metrics())


METHOD = Method(
    name="greeter", stage="retrieval", summary="greets", config=Config, fit="greeter:serve", serve="greeter:serve"
)
'''
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def greeter(install) -> Iterator[None]:
    install("greeter", GREETER, "greeter = greeter:METHOD")
    yield
    sys.modules.pop("greeter", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "greeting.txt").write_text("Hello, ")
    return run


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """``call(words, …)`` gives exit status and standard error."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: str) -> tuple[int, str]:
        try:
            main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
        return status, capfd.readouterr().err

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_method_is_served_until_a_signal(greeter: None, folder: Path, number: int) -> None:
    pytest.importorskip("uvicorn")
    program = f"import sys; sys.path.insert(0, {str(folder.parent)!r}); from recascade.cli.main import main; main()"
    words = [sys.executable, "-u", "-c", program, "serve", "greeter", str(folder), "name=you", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("greeter answers at http://127.0.0.1:")
        with urllib.request.urlopen(f"{line.split()[3]}/greet", timeout=10) as response:
            assert json.load(response) == "Hello, you"
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_a_method_without_a_service_names_those_that_have_one(greeter: None, folder: Path, call: Call) -> None:
    status, error = call("serve", "popularity", str(folder))
    assert status == 2
    assert "Method 'popularity' has no service. Methods that have one: " in error and "greeter" in error


def test_mistakes_are_sentences(greeter: None, folder: Path, call: Call) -> None:
    assert call("serve", "greter", str(folder)) == (2, "Error: There is no method 'greter'. Did you mean 'greeter'?\n")
    status, error = call("serve", "greeter", "absent")
    assert status == 2 and "There is no run directory absent" in error
    status, error = call("serve", "greeter", str(folder), "name")
    assert status == 2 and "'name' is not an override; write key=value" in error


def test_a_port_in_use_is_a_sentence(greeter: None, folder: Path, call: Call) -> None:
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, error = call("serve", "greeter", str(folder), "name=you", "--port", port)
    assert status == 2 and f"Port {port} of 127.0.0.1 is in use" in error and "Traceback" not in error
