"""What a run left behind, as the report reads it: only files, so that a report needs no method to be installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from recascade.bench.store import CONFIG_FILE, METRICS_FILE, Run
from recascade.errors import DataError

CURVES_SCHEMA = {"epoch": pl.Int64, "step": pl.Int64, "name": pl.String, "value": pl.Float64}


@dataclass(frozen=True)
class RunRecord:
    """One finished or failed run.

    Attributes:
        directory: the run directory.
        result: the contents of ``result.json``.
    """

    directory: Path
    result: Mapping[str, Any]

    @cached_property
    def config_text(self) -> str:
        """``config.yaml`` as it was written."""
        path = self.directory / CONFIG_FILE
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}); delete the folder and run again.") from error

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The complete configuration as nested mappings."""
        try:
            config = yaml.safe_load(self.config_text)
        except yaml.YAMLError:
            config = None
        if not isinstance(config, dict):
            raise DataError(f"{self.directory / CONFIG_FILE} is not a configuration; delete the folder and run again.")
        return config

    @cached_property
    def metric_columns(self) -> list[str]:
        """Metrics of the per-user table; the columns before the first of them describe the user."""
        return [name for name, dtype in self._scan_user_metrics().collect_schema().items() if dtype.is_float()]

    def user_metrics(self, metrics: Sequence[str]) -> pl.DataFrame:
        """``user_id`` and the metrics, float64, one row per test user, ascending by id; of a re-ranking run, its lists
        in place of users."""
        table = self._scan_user_metrics().rename({"list_id": "user_id"}, strict=False)
        columns = ["user_id", *(pl.col(name).cast(pl.Float64) for name in metrics)]
        return table.select(columns).sort("user_id").collect()

    def curves(self) -> pl.DataFrame:
        """Values logged while training: ``epoch``, ``step``, ``name``, ``value``; empty where nothing was trained."""
        path = Run(self.directory).curves
        if not path.exists():
            return pl.DataFrame(schema=CURVES_SCHEMA)
        try:
            return pl.read_csv(path, schema=CURVES_SCHEMA)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{path} is not a table of training curves ({error}); delete the folder and run again."
            ) from error

    def _scan_user_metrics(self) -> pl.LazyFrame:
        path = self.directory / METRICS_FILE
        if not path.exists():
            raise DataError(f"{path} is missing, although the run is finished; delete the folder and run again.")
        return pl.scan_parquet(path)


def records(runs: list[Run]) -> tuple[list[RunRecord], list[RunRecord], list[Path]]:
    """Finished runs, failed runs, and the directories of unfinished ones."""
    finished, failed, unfinished = [], [], []
    for run in runs:
        if run.result is None:
            unfinished.append(run.directory)
        elif run.state == "finished":
            finished.append(RunRecord(run.directory, run.result))
        else:
            failed.append(RunRecord(run.directory, run.result))
    return finished, failed, unfinished
