"""From a folder of run directories to the contents of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recascade.bench.report.board import Board, build_board, per_user_metrics
from recascade.bench.report.entry import entry_name
from recascade.bench.report.record import RunRecord, records
from recascade.bench.report.rules import Rules, rules_of
from recascade.bench.store import find_runs
from recascade.errors import ConfigurationError, DataError, did_you_mean


class Failure(NamedTuple):
    """Why some seeds of a method have no result."""

    name: str
    data: str
    seeds: list[int]
    error: str


@dataclass(frozen=True)
class Report:
    """Everything the outputs are made of.

    Attributes:
        boards: one leaderboard per data set and set of rules.
        failed: runs that ended with an error, which are listed and never averaged.
        unfinished: directories of runs that were interrupted or are still running.
    """

    boards: tuple[Board, ...]
    failed: tuple[RunRecord, ...]
    unfinished: tuple[Path, ...]

    @property
    def failures(self) -> list[Failure]:
        """The failed runs, seeds that failed alike together."""
        seeds: dict[tuple[str, str, str], list[int]] = {}
        for run in self.failed:
            key = (entry_name(run), run.result["data"]["name"], run.result["error"])
            seeds.setdefault(key, []).append(run.result["seed"])
        return [Failure(name, data, sorted(numbers), error) for (name, data, error), numbers in seeds.items()]


def collect(
    directory: Path, *, metric: str | None = None, reference: str | None = None, every_configuration: bool = False
) -> Report:
    """Read all run directories in or below ``directory`` and build one leaderboard per data set and set of rules.

    Args:
        directory: searched recursively.
        metric: shown first, and used to choose among configurations (on validation); NDCG@10 by default.
        reference: method, or ``"method · variant"``, that differences are taken to; by default the untrained method
            that is best on validation, or the best method where all are trained.
        every_configuration: show every set of overrides in the leaderboard, not only each method's best on validation.

    Raises:
        DataError: there is no finished run, or runs contradict each other.
        ConfigurationError: no run has this ``metric`` or is this ``reference``.
    """
    finished, failed, unfinished = records(find_runs(directory))
    if not finished:
        said = f"; the first failed run says: {failed[0].result['error']}" if failed else ""
        raise DataError(f"No run in {directory} is finished yet{said}.")
    grouped: dict[tuple[str, Rules], list[RunRecord]] = {}
    for run in finished:
        grouped.setdefault((run.result["data"]["name"], rules_of(run)), []).append(run)
    metrics = {name for group in grouped.values() for name in per_user_metrics(group)}
    if metric is not None and metric not in metrics:
        raise ConfigurationError(f"No run in {directory} has the metric {metric!r}.{did_you_mean(metric, metrics)}")
    names = {name for run in finished for name in (run.result["method"], entry_name(run))}
    if reference is not None and reference not in names:
        raise ConfigurationError(f"No run in {directory} is of {reference!r}.{did_you_mean(reference, names)}")
    boards = [
        build_board(rules, group, metric=metric, reference=reference, every_configuration=every_configuration)
        for (_, rules), group in grouped.items()
    ]
    return Report(tuple(boards), tuple(failed), tuple(unfinished))
