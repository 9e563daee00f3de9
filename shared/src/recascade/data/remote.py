"""Data on object stores and other filesystems, by address (``s3://``, ``gs://``, ``memory://`` …): copied, then read.

A copy is the simplest thing that is right. The fingerprint of a data set reads every byte of it, a split writes files
of its own, and training reads these many times: reading from afar would only ask for the same bytes again. So one
streamed copy is made, and everything after it runs at the speed of the local disk, which must have the room.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow
from pyarrow import fs

from recascade.data.address import shown
from recascade.data.dataset import MANIFEST, TABLES, Dataset
from recascade.data.home import home
from recascade.errors import DataError, MissingDependencyError, RecascadeError
from recascade.files import is_disk_full, write_folder_atomically

# Google's client would try for a quarter of an hour.
_GOOGLE_PATIENCE = "retry_limit_seconds=30"
_REASONS = (
    (
        "ACCESS_DENIED|AccessDenied|HTTP status: 403|HTTP status 403|InvalidAccessKeyId|INVALID_ACCESS_KEY|"
        "SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|Permanent error.*(401|403)|PERMISSION_DENIED|UNAUTHENTICATED|"
        "AuthenticationException",
        "may not be read with these credentials; check them (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "a profile) and the permissions of the bucket.",
    ),
    (
        "NO_SUCH_BUCKET|NoSuchBucket|Bucket .* not found",
        "names a bucket that there is not; check its name and the endpoint.",
    ),
    (
        "NETWORK_CONNECTION|curlCode|[Cc]ould not connect|[Cc]ould not resolve|[Cc]onnection refused|UNAVAILABLE|"
        "[Tt]imed out|Retry policy exhausted",
        "cannot be reached; check the network and the endpoint (for S3: AWS_ENDPOINT_URL, or "
        "?endpoint_override=HOST:PORT&scheme=http at the end of the address).",
    ),
)


def copy_here(address: str, folder: Path) -> Path:
    """Copy a file, or a folder with all that is below it, from another filesystem into ``folder``, piece by piece.

    What ``file://`` names is here already and is not copied.

    Args:
        address: as pyarrow or fsspec understands it; credentials come from where the store's own tools look for them.
        folder: a folder that is there.

    Returns:
        The path of the copy, which has the last name of the address, or of the file that is here already.

    Raises:
        DataError: there is nothing at the address, it may not be read, or it cannot be reached.
        MissingDependencyError: the package for this kind of address is not installed.
    """
    with _explained(address):
        filesystem, path = _open(address)
        info = filesystem.get_file_info([path])[0]
        if info.type == fs.FileType.NotFound or not path.strip("/"):
            raise DataError(f"There is no file or folder {shown(address)}.")
        if isinstance(filesystem, fs.LocalFileSystem):
            return Path(path)
        target = folder / Path(path.rstrip("/")).name
        if info.type == fs.FileType.File:
            files = {target: info}
        else:
            below = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
            files = {
                target / Path(entry.path).relative_to(path.rstrip("/")): entry
                for entry in below
                if entry.type == fs.FileType.File
            }
        for local, entry in files.items():
            _copy(filesystem, entry, local, address)
    return target


def open_remote(address: str) -> Dataset:
    """Open a canonical data set on another filesystem.

    Its tables are copied once to ``RECASCADE_HOME/remote`` and used from there as long as names, sizes and times of
    change at the address stay the same; when they change, a new copy is made beside the old one.

    Raises:
        DataError: there is no canonical folder at the address, it may not be read, or it cannot be reached.
        MissingDependencyError: the package for this kind of address is not installed.
    """
    with _explained(address):
        filesystem, path = _open(address)
        if isinstance(filesystem, fs.LocalFileSystem):
            return Dataset.open(path)
        names = [*(f"{table}.parquet" for table in TABLES), MANIFEST]
        infos = filesystem.get_file_info([f"{path.rstrip('/')}/{name}" for name in names])
        found = [info for info in infos if info.type == fs.FileType.File]
        if not any(info.base_name.endswith(".parquet") for info in found):
            raise DataError(
                f"{shown(address)} holds no data set: it has no interactions.parquet, lists.parquet or "
                "impressions.parquet. Import what lies there with 'recascade data import ADAPTER ADDRESS DST'."
            )
        state = {info.base_name: [info.size, _version(filesystem, info)] for info in found}
        where = [shown(address).rstrip("/"), urlsplit(address).query]
        key = hashlib.sha256(json.dumps([where, state], sort_keys=True).encode()).hexdigest()[:16]
        copy = home() / "remote" / key / Path(path.rstrip("/")).name
        if not copy.is_dir():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with write_folder_atomically(copy) as folder:
                for info in found:
                    _copy(filesystem, info, folder / info.base_name, address)
    return Dataset.open(copy)


def _open(address: str) -> tuple[Any, str]:
    """pyarrow's own filesystems first, since they need no further package; else those of fsspec."""
    parts = urlsplit(address)
    if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query:
        address = f"{address}{'&' if parts.query else '?'}{_GOOGLE_PATIENCE}"
    try:
        filesystem, path = fs.FileSystem.from_uri(address)
    except pyarrow.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
        import fsspec

        other, path = fsspec.core.url_to_fs(address)
        filesystem = fs.PyFileSystem(fs.FSSpecHandler(other))
    return filesystem, path


def _version(filesystem: Any, info: Any) -> Any:
    """What changes when the file does."""
    if isinstance(filesystem, fs.PyFileSystem):
        return filesystem.handler.fs.ukey(info.path)
    return info.mtime_ns


def _copy(filesystem: Any, info: Any, local: Path, address: str) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    fs.copy_files(info.path, str(local), source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())
    size = local.stat().st_size
    if info.size is not None and size != info.size:
        raise DataError(f"{shown(address)}: {info.base_name} ended after {size:,} of {info.size:,} bytes; try again.")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what the filesystems raise into one sentence."""
    name = shown(address)
    try:
        yield
    except RecascadeError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"There is no file or folder {name}.") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} needs a package that is not installed ({str(error).splitlines()[0]}); "
            f"install that of fsspec for {urlsplit(address).scheme}://."
        ) from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        if is_disk_full(error):
            raise
        text = str(error)
        for pattern, sentence in _REASONS:
            if re.search(pattern, text):
                raise DataError(f"{name} {sentence}") from error
        reason = (text.splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be read ({reason}); check the address.") from error
