"""Fitted stages on disk: each is computed once, whoever needs it, and opened by fitting it again where it lies."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recascade.contracts.method import FIT_FILE
from recascade.errors import DataError
from recascade.files import read_json, write_json
from recascade.locks import alone_in

_DONE_FILE = "stage.json"


@dataclass(frozen=True)
class StageFolder:
    """A folder named by the content of what is fitted in it.

    Attributes:
        path: the folder.
        identity: everything that decides the fit, as JSON can say it.
    """

    path: Path
    identity: Mapping[str, Any]

    @classmethod
    def below(cls, shared: Path, name: str, identity: Mapping[str, Any]) -> StageFolder:
        """The folder of a stage below the one that all cascades of a data set share."""
        return cls(shared / f"{name.replace('/', '-')}-{digest(identity)}", identity)

    @property
    def facts(self) -> dict[str, Any] | None:
        """What the fit cost and reached; None while it is not finished."""
        done = self.path / _DONE_FILE
        facts: dict[str, Any] | None = read_json(done)["facts"] if done.exists() else None
        return facts

    @contextmanager
    def fitting(self, *, train: bool = True) -> Iterator[None]:
        """Fit inside the block: it is noted as finished when the block ends well.

        Another process that wants the same stage waits here, and then finds it finished. A fit that was finished
        before costs what it cost then; what opening it takes is not added.

        Args:
            train: False refuses a stage that is not finished.

        Raises:
            DataError: it is not finished, and must not be trained.
        """
        if not train and self.facts is None:
            raise DataError(
                f"There is no trained stage {self.path.name} in {self.path.parent}; if the cascade was copied, copy "
                "that folder too, beside it as it was; otherwise train it again with 'recascade cascade train'."
            )
        with alone_in(self.path):
            begin, begin_cpu = time.perf_counter(), time.process_time()
            yield
            if self.facts is None:
                spent = {
                    "fit_seconds": time.perf_counter() - begin,
                    "fit_cpu_seconds": time.process_time() - begin_cpu,
                }
                told = self.path / FIT_FILE
                facts = spent | (read_json(told) if told.exists() else {})
                write_json(self.path / _DONE_FILE, {"format": 1, "identity": dict(self.identity), "facts": facts})


def digest(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of what decides a stage."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
