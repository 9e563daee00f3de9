"""Files that are either whole or absent, and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recascade.errors import DataError


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; when the block ends well, the file there becomes ``path``.

    A reader never sees half a file: not after a crash, a full disk or Ctrl-C, and not from another process. The folder
    is made if it is missing.

    Raises:
        DataError: the disk is full, or the folder cannot be written; an older file at ``path`` is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with explain_write_failure(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
    finally:
        # A folder that cannot be entered says so above; failing to clean up in it must not hide that.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; when the block ends well, it becomes ``path`` with all its content.

    When another process has finished the same folder meanwhile, that one stays and this one is thrown away: use it for
    folders whose name says their content, such as caches.

    Raises:
        DataError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with explain_write_failure(path):
            temporary.mkdir(parents=True)
            yield temporary
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_new_folder(path: Path) -> None:
    """Refuse a destination that holds something.

    Raises:
        DataError: ``path`` is a file, or a folder that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} exists and is not empty; choose another folder or remove it.")


@contextmanager
def explain_write_failure(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder, whoever raises it, into one sentence about ``path``."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise DataError(
                f"The disk is full while writing {path}; {_free_bytes(path):,} bytes free; "
                "free some space and run the command again, nothing finished is lost."
            ) from error
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise DataError(f"{path} cannot be written (permission denied); choose another folder.") from error
        raise


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused, since JSON has neither."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: there is no such file, or it is cut off or otherwise not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not complete JSON ({error}); it may be cut off: make it again.") from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that there is no room on the disk.

    Polars and pyarrow do not always keep the error number, so the text is looked at too.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__
    return False


def _free_bytes(path: Path) -> int:
    folder = path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
