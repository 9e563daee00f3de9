"""One process at a time in a run directory, on whatever machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recascade.errors import DataError
from recascade.locks import try_lock

PATIENCE_SECONDS = 120.0
"""How long to wait for a process whose command was killed: it ends after the step under way and its checkpoint, and a
file server forgets the locks of a lost machine after some 90 seconds."""


@contextmanager
def sole_use(path: Path, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the lock of a file while the block runs; the system frees it however the process ends.

    On a file system without locks nothing is held.

    Args:
        path: a file that is there, and that nobody replaces.
        patience_seconds: how long to wait for another process to end.

    Raises:
        DataError: another process holds it still.
    """
    deadline = time.monotonic() + patience_seconds
    # A network file system gives exclusive locks only to who could write.
    with path.open("rb+") as handle:
        while not try_lock(handle.fileno()):
            if time.monotonic() > deadline:
                raise DataError(
                    f"{path.parent} is being computed by another process, here or on another machine; wait until it "
                    "has ended, or stop it, and run the command again."
                )
            # The system can only be waited for without an end; asking again now and then has one.
            time.sleep(0.2)
        yield
