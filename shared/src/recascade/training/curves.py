"""The training log as a long table: ``curves.csv`` with columns epoch, step, name, value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from recascade.files import explain_write_failure, write_atomically

HEADER = "epoch,step,name,value\n"


class CurvesLogger(Logger):
    """A Lightning logger that appends to one file and can take back what a killed run wrote after its last checkpoint.

    Epochs count from 1; ``step`` is the number of optimiser steps made.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Of the logger."""
        return "curves"

    @property
    def version(self) -> str:
        """Always the same: one file per run directory."""
        return ""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop the lines after ``step`` and begin the file if there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        # A line without its end was cut off by a kill.
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[1]) <= step]
        with write_atomically(self.path) as temporary:
            temporary.write_text(HEADER + "".join(kept), encoding="utf-8")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line per metric; Lightning adds the key ``epoch``, counted from 0."""
        epoch = int(metrics.get("epoch", 0)) + 1
        lines = [f"{epoch},{step},{name},{float(value)!r}\n" for name, value in metrics.items() if name != "epoch"]
        with explain_write_failure(self.path), self.path.open("a", encoding="utf-8") as handle:
            handle.write("".join(lines))

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """Nothing: a run's configuration stands in its ``config.yaml``."""
