"""One process at a time, on whatever machine: locks of files, which end with the process however that ends.

On a file system without locks nothing is held.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recascade.files import explain_write_failure

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; whoever else wants it waits without an end.

    Args:
        folder: made if it is missing; a file ``.lock`` stays in it.

    Raises:
        DataError: the folder cannot be written.
    """
    with explain_write_failure(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        _lock(handle.fileno(), fcntl.LOCK_EX)
        yield


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file if nobody has it; a file system without locks says that nobody has."""
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
