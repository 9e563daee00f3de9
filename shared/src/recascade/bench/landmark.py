"""Whether a machine sees the folder of the results, and the locks in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recascade import __version__
from recascade.files import explain_write_failure
from recascade.locks import try_lock


@dataclass(frozen=True)
class Landmark:
    """A file with a word in it that only those can read who share the folder.

    Attributes:
        path: of the file, absolute.
        word: its content.
        version: of recascade on the machine that made it.
    """

    path: Path
    word: str
    version: str

    def problem_on(self, machine: str) -> str:
        """Why this process cannot compute runs in the folder, naming the machine; the empty string when it can."""
        folder = self.path.parent
        try:
            word = self.path.read_text(encoding="utf-8")
        except OSError:
            word = ""
        if word != self.word:
            return (
                f"The folder {folder} is not visible on machine {machine}; all machines of the cluster must share it "
                "at the same path: choose another --output."
            )
        if __version__ != self.version:
            return f"Machine {machine} has recascade {__version__}, this one {self.version}; install the same on both."
        try:
            with self.path.open("rb+") as handle:
                locks_reach_us = not try_lock(handle.fileno())
        except OSError:
            return f"The folder {folder} cannot be written on machine {machine}; choose another --output."
        if not locks_reach_us:
            return (
                f"The file system of {folder} does not carry file locks to machine {machine}, so that two machines "
                "could compute one run; mount it with locks (NFS 4, or Lustre with -o flock)."
            )
        return ""


@contextmanager
def landmark_in(folder: Path) -> Iterator[Landmark]:
    """Put a landmark into a folder, locked, for as long as the block runs."""
    folder = folder.resolve()
    path = folder / f".landmark-{secrets.token_hex(4)}"
    landmark = Landmark(path, secrets.token_hex(16), __version__)
    with explain_write_failure(path):
        path.write_text(landmark.word, encoding="utf-8")
        try:
            with path.open("rb+") as handle:
                try_lock(handle.fileno())
                yield landmark
        finally:
            path.unlink(missing_ok=True)
