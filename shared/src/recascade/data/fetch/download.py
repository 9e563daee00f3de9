"""One file of the catalogue: from the cache when it is there and right, else from the mirrors in turn."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recascade.data.fetch.catalogue import RemoteFile, check_address
from recascade.data.fetch.transfer import Report, TransferFailure, transfer
from recascade.errors import ConfigurationError, DataError
from recascade.files import explain_write_failure, read_json, write_json

# A mirror is given up after so many tries in a row that brought less than the bytes that count as progress.
_TRIES = 5
_PROGRESS_BYTES = 1 << 20
_LEDGER = "checksums.json"


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds without a byte.
        pause: seconds before the second try at one server; doubled for each further one.
    """

    timeout: float = 30.0
    pause: float = 1.0


def download(file: RemoteFile, folder: Path, report: Report, patience: Patience) -> str:
    """Make ``folder / file.name`` hold the right file, asking nobody where it does already.

    Each mirror is tried until five tries in a row brought next to nothing, each going on where the last one stopped.
    ``checksums.json`` in the folder records what was found right: the checksum, the size, whence, and whether the
    catalogue vouches for it.

    Args:
        file: what is wanted.
        folder: of the cache; only one process may be in it at a time.
        report: is told how far it is.
        patience: with the servers.

    Returns:
        The checksum that holds.

    Raises:
        DataError: no mirror gave the right file: what each did, and what to do.
    """
    path = folder / file.name
    with explain_write_failure(path):
        folder.mkdir(parents=True, exist_ok=True)
        known = _checksum_of_cached(file, path)
        if known:
            return known
        return _from_mirrors(file, path, report, patience)


def _checksum_of_cached(file: RemoteFile, path: Path) -> str:
    """The checksum of a file that is there and right; empty otherwise. A file unchanged since is not read again."""
    if not path.is_file():
        return ""
    state = path.stat()
    record = _ledger(path.parent).get(file.name, {})
    wanted = file.checksum or str(record.get("checksum", ""))
    if wanted and record.get("checksum") == wanted and record.get("state") == [state.st_size, state.st_mtime_ns]:
        return wanted
    if file.size is not None and state.st_size != file.size:
        return ""
    found = _checksum(path, wanted)
    if wanted and found != wanted:
        return ""
    _note(file, path, found, "the file that was in the cache")
    return found


def _from_mirrors(file: RemoteFile, path: Path, report: Report, patience: Patience) -> str:
    partial = path.with_name(f".{path.name}.partial")
    failures: list[tuple[str, TransferFailure]] = []
    for url in file.urls:
        fruitless, again = 0, False
        while True:
            before = _size(partial)
            try:
                return _try(file, url, path, partial, report, patience)
            except TransferFailure as failure:
                last = failure
            # A wrong file that was put together from several transfers may be right when it comes in one piece.
            in_one_piece = not last.retry and before > 0 and not partial.exists() and not again
            again |= in_one_piece
            fruitless = 0 if _size(partial) - before >= _PROGRESS_BYTES else fruitless + 1
            if fruitless == _TRIES or not (last.retry or in_one_piece):
                break
            # A server that is overloaded gets twice the time at each try.
            time.sleep(patience.pause * 2 ** max(fruitless - 1, 0))
        failures.append((urlsplit(url).hostname or url, last))
    raise DataError(_sentence(file, path, partial, failures))


def _try(file: RemoteFile, url: str, path: Path, partial: Path, report: Report, patience: Patience) -> str:
    recorded = str(_ledger(path.parent).get(file.name, {}).get("checksum", ""))
    wanted = file.checksum or recorded
    complete = file.size is not None and partial.exists() and _size(partial) == file.size
    if not complete:
        _transfer(file, url, partial, bool(wanted), report, patience)
    found = _checksum(partial, wanted)
    if wanted and found != wanted:
        partial.unlink()
        if file.checksum:
            raise TransferFailure("sent a file with another checksum than the catalogue states")
        raise TransferFailure(
            f"has another file now than at the first fetch (remove {path.parent / _LEDGER} to accept the new one)"
        )
    partial.replace(path)
    _mark(partial).unlink(missing_ok=True)
    _note(file, path, found, url)
    return found


def _transfer(file: RemoteFile, url: str, partial: Path, vouched: bool, report: Report, patience: Patience) -> None:
    """Without a checksum, only a file of one server and of one version may be put together from several transfers."""
    mark = read_json(_mark(partial)) if _mark(partial).is_file() and partial.exists() else {}
    version = ""
    if not vouched:
        version = str(mark.get("version", "")) if mark.get("url") == url else ""
        if not version:
            partial.unlink(missing_ok=True)

    def remember(answered: str, served_version: str) -> None:
        check_redirection(file, answered)
        write_json(_mark(partial), {"url": url, "version": served_version})

    transfer(url, partial, size=file.size, version=version, timeout=patience.timeout, report=report, answered=remember)


def check_redirection(file: RemoteFile, url: str) -> None:
    """Refuse an answer from an unprotected place that no checksum vouches for.

    Raises:
        TransferFailure: there is neither https nor a checksum.
    """
    try:
        check_address(url, file.checksum, file.name)
    except ConfigurationError as error:
        raise TransferFailure("leads to an unprotected address (http), and there is no checksum") from error


def _sentence(file: RemoteFile, path: Path, partial: Path, failures: list[tuple[str, TransferFailure]]) -> str:
    told = "; ".join(f"{host} {failure.reason}" for host, failure in failures)
    kept = _size(partial)
    resumed = f" The {kept:,} bytes that came are kept, and the next try goes on from there." if kept else ""
    if all(failure.offline for _, failure in failures):
        return (
            f"There is no network connection for {file.name}: {told}. Connect and run the command again, or put the "
            f"file into {path.parent} yourself.{resumed}"
        )
    return (
        f"{file.name} could not be fetched: {told}. Try again later, or put the file into {path.parent} yourself."
        f"{resumed}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _checksum(path: Path, like: str) -> str:
    algorithm = like.partition(":")[0] or "sha256"
    with path.open("rb") as handle:
        return f"{algorithm}:{hashlib.file_digest(handle, algorithm).hexdigest()}"


def _ledger(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / _LEDGER)) if (folder / _LEDGER).is_file() else {}


def _note(file: RemoteFile, path: Path, checksum: str, origin: str) -> None:
    state = path.stat()
    record = {
        "checksum": checksum,
        "vouched_by": "catalogue" if file.checksum else "nobody: recorded at the first fetch",
        "from": origin,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": [state.st_size, state.st_mtime_ns],
    }
    write_json(path.parent / _LEDGER, _ledger(path.parent) | {file.name: record})


def _mark(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")
