"""What a run reads, by content: its data set, and every file that a setting names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from recascade.bench.config import RunConfig
from recascade.bench.ground import Ground
from recascade.bench.store import SOURCES_FILE, Run
from recascade.contracts.named_files import named_files
from recascade.errors import ConfigurationError
from recascade.files import read_json, sha256_of, write_json

_DATA = "data"


def file_sources(config: RunConfig) -> dict[str, str]:
    """Key of a setting → content of the file or folder that it names; those of a cascade's members too."""
    sections = {"model": config.model, "evaluation": config.evaluation}
    found = {
        key: content_digest(path)
        for name, section in sections.items()
        for key, path in named_files(section, f"{name}.")
    }
    for member in getattr(config.model, "members", ()):
        own = file_sources(member.config({}))
        found |= {f"model.{member.slot}_settings.{key}": digest for key, digest in own.items()}
    return found


def check_sources(config: RunConfig, ground: Ground, directory: Path) -> None:
    """Note beside ``config.yaml`` what the run reads, or refuse a run that was begun on something else.

    A finished run of a version that noted nothing knows the fingerprint of its data alone.

    Raises:
        ConfigurationError: the data set or a named file has changed since the run began.
    """
    now = {_DATA: str(ground.data["fingerprint"]), **file_sources(config)}
    before = _noted(directory)
    if before is None:
        write_json(directory / SOURCES_FILE, now)
        return
    changed = sorted(key for key, digest in before.items() if now.get(key) != digest)
    if changed:
        raise ConfigurationError(
            f"{directory} was computed from other files ({', '.join(changed)} changed since); choose another --output "
            "or delete that folder."
        )


def content_digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and bytes of the weights in and below it."""
    if path.is_file():
        return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*.safetensors")):
        whole.update(f"{file.relative_to(path)}:{content_digest(file)}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _digest(file: Path, _size: int, _changed: int) -> str:
    """A sweep names one file in many runs, and it can be large."""
    return sha256_of(file)


def _noted(directory: Path) -> Mapping[str, str] | None:
    if (directory / SOURCES_FILE).exists():
        noted: dict[str, str] = read_json(directory / SOURCES_FILE)
        return noted
    run = Run(directory)
    return {_DATA: run.result["data"]["fingerprint"]} if run.result is not None and run.state == "finished" else None
