"""Fixtures for tests that go through the registry, the runner or the command line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from recascade.bench import registry

# No test asserts wall time, a generated example neither.
hypothesis.settings.register_profile("recascade", deadline=None)
hypothesis.settings.load_profile("recascade")

# A shell starts what runs in the background with Ctrl-C ignored, and commands that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ACME = '''
"""A method of a third party, whose fit does what its configuration says."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from recascade.contracts.method import Method
from recascade.errors import TrainingError


@dataclass
class Config:
    """What to do, and two settings to vary."""

    behaviour: str = "fit"
    width: int = 8
    depth: int = 1


def fit(experiment):
    from recascade.models.popularity import Popularity

    (experiment.directory / "fitted").open("a").write("x")
    behaviour = experiment.config.behaviour
    if behaviour == "diverge":
        raise TrainingError("The loss is not a number at step 3; lower trainer.learning_rate.")
    if behaviour == "bug":
        raise RuntimeError("shapes do not match")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "wait":
        (experiment.directory / "waiting").touch()
        try:
            time.sleep(600)  # until the runner interrupts it
        except KeyboardInterrupt:
            (experiment.directory / "checkpointed").touch()
            raise
    return Popularity.fit(experiment.data)


METHOD = Method(
    name="acme",
    stage="retrieval",
    summary="a third party's method",
    config=Config,
    fit="acme_method:fit",
    variants={"default": {}, "wide": {"width": 64}},
    baselines=("popularity",),
    axes={"width": (8, 16), "depth": (1, 2, 3)},
)
'''

Install = Callable[[str, str, str], None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh RECASCADE_HOME, and no other place to find data in."""
    folder = tmp_path / "home"
    monkeypatch.setenv("RECASCADE_HOME", str(folder))
    monkeypatch.delenv("RECASCADE_DATA", raising=False)
    return folder


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated data set."""
    from recascade.data.synthetic import markov_log

    folder = tmp_path_factory.mktemp("data") / "log"
    markov_log(folder, users=60, items=30, mean_length=12.0, seed=1, name="log")
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a module as a distribution that registers a method: ``install(module, source, entry_points)``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, source: str, entry_points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry_points}\n")
        registry._discover.cache_clear()

    yield write
    registry._discover.cache_clear()


@pytest.fixture
def acme(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The method ``acme`` of a third party, installed."""
    import sys

    install("acme_method", ACME, "acme = acme_method:METHOD")
    yield
    sys.modules.pop("acme_method", None)
