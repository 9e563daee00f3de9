"""Checks of an installation: versions, methods, devices, disk, data, and a trial run through everything."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from recascade import __version__
from recascade.bench.registry import broken_methods, installed_methods
from recascade.bench.runner import Event, LocalRunner, available_cores
from recascade.data.home import home
from recascade.errors import RecascadeError

DISTRIBUTION = "recascade-shared"
LITTLE_DISK_BYTES = 2_000_000_000
TRIAL_DATA = "synthetic-small"


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: what was looked at.
        state: ``ok``; ``warning`` for what will matter sometimes; ``problem`` for what will fail.
        text: what was found and, unless all is well, what to do.
    """

    subject: str
    state: Literal["ok", "warning", "problem"]
    text: str


def examine(data: str | None = None) -> Iterator[Finding]:
    """All checks, each given as soon as it is made.

    Args:
        data: also read and validate this data set.
    """
    yield Finding("recascade", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "dependencies": _requirements,
        "methods": _methods,
        "devices": _devices,
        "disk": _disk,
        "data": _sources,
        "trial run": _trial_run,
    }
    if data is not None:
        checks["data set"] = lambda: _data(data)
    for subject, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # Whatever is broken here is what the user wants to hear of, and the rest too.
            yield Finding(subject, "problem", f"{type(error).__name__}: {error}")


def _requirements() -> Iterator[Finding]:
    try:
        texts = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        yield Finding(DISTRIBUTION, "problem", "is not installed, so no method is registered: pip install recascade")
        return
    versions = []
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, "problem", f"is not installed: pip install '{requirement}'")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            versions.append(f"{requirement.name} {found}")
        else:
            advice = f"{found} is installed, {requirement} is needed: pip install '{requirement}'"
            yield Finding(requirement.name, "problem", advice)
    yield Finding("dependencies", "ok", ", ".join(versions))


def _methods() -> Iterator[Finding]:
    try:
        yield Finding("methods", "ok", ", ".join(installed_methods()) or "none")
    except RecascadeError as error:
        yield Finding("methods", "problem", str(error))
        return
    for broken in broken_methods():
        advice = f"{broken.problem} Reinstall {broken.distribution}."
        yield Finding(f"method {broken.name}", "problem", advice)


def _devices() -> Iterator[Finding]:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("Apple MPS")
    accelerators = ", ".join(names) or "no GPU"
    yield Finding("devices", "ok", f"{available_cores()} of {os.cpu_count()} CPU cores, {accelerators}")
    if not names and Path("/dev/nvidiactl").exists():
        advice = f"a GPU is there, but torch {torch.__version__} cannot use it; install a CUDA build of torch."
        yield Finding("devices", "warning", advice)


def _disk() -> Iterator[Finding]:
    for subject, folder in (("cache", home()), ("results", Path("runs").absolute())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not os.access(existing, os.W_OK):
            remedy = "set RECASCADE_HOME to another folder" if subject == "cache" else "use --output"
            yield Finding(subject, "problem", f"{folder} cannot be written; {remedy}.")
            continue
        free = shutil.disk_usage(existing).free
        little = free < LITTLE_DISK_BYTES
        text = f"{folder}, {free / 1e9:.1f} GB free"
        yield Finding(subject, "warning" if little else "ok", text + ("; free some space." if little else ""))


def _sources() -> Iterator[Finding]:
    from recascade.data.sources import known_sources

    for folder in filter(None, os.environ.get("RECASCADE_DATA", "").split(os.pathsep)):
        if not Path(folder).expanduser().is_dir():
            yield Finding("RECASCADE_DATA", "problem", f"{folder} is no folder; correct the variable.")
    yield Finding("data", "ok", ", ".join(source.name for source in known_sources()))


def _data(name: str) -> Iterator[Finding]:
    from recascade.data.sources import resolve

    try:
        columns = resolve(name).interactions().collect_schema().names()
    except RecascadeError as error:
        yield Finding(f"data {name}", "problem", str(error))
    else:
        yield Finding(f"data {name}", "ok", f"interactions with {', '.join(columns)}")


def _trial_run() -> Iterator[Finding]:
    from recascade.bench.store import Run
    from recascade.bench.suite import configs_of
    from recascade.bench.sweep import compute, lay_out

    events: list[Event] = []
    with tempfile.TemporaryDirectory(prefix="recascade-doctor-") as folder:
        try:
            sweep = lay_out(configs_of("popularity", TRIAL_DATA, "default", 1, {}), Path(folder), lambda _: None)
            compute(sweep, LocalRunner(processes=1, threads=1), events.append, lambda: None)
        except RecascadeError as error:
            yield Finding("trial run", "problem", str(error))
            return
        if events[-1].kind == "failed":
            yield Finding("trial run", "problem", events[-1].problem)
            return
        result = Run(sweep.runs[0].directory).result or {}
    peak = result["cost"]["peak_memory_bytes"] / 1e6
    yield Finding("trial run", "ok", f"popularity on {TRIAL_DATA} in a process of its own, {peak:.0f} MB at its peak")
