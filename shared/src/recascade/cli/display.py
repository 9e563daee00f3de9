"""How a sweep looks on a terminal: one line per running run, one per finished run, and a leaderboard at the end."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from recascade.bench.leaderboard import LeaderboardRow, leaderboard, shared_changes
from recascade.bench.runner import Event
from recascade.bench.store import CURVES_FILE, Run

if TYPE_CHECKING:
    from recascade.bench.sweep import Sweep
    from recascade.cli.sweeping import SweepOptions

_COLUMNS = ("ndcg@10", "recall@10")
_REFRESH_SECONDS = 1.0


class SweepDisplay:
    """Shows the events of a sweep; on a terminal, running runs have a live line too.

    Args:
        total: runs of the sweep.
        done: how many of them were finished before.
        metric: test metric shown with each finished run.

    Attributes:
        failures: directory of each failed run → why.
    """

    def __init__(self, total: int, done: int, metric: str) -> None:
        self.failures: dict[Path, str] = {}
        self._metric = metric
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._overall = self._progress.add_task("[bold]runs", total=total, completed=done, note="")
        self._tasks: dict[Path, TaskID] = {}
        self._read_at = 0.0

    def __enter__(self) -> SweepDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the live lines away."""
        self._progress.stop()

    def watch(self, event: Event) -> None:
        """Show one event of the runner."""
        label = _label(event.directory)
        if event.kind == "started":
            epochs = Run(event.directory).config.trainer.max_epochs
            self._tasks[event.directory] = self._progress.add_task(label, total=epochs, note="")
            return
        self._progress.remove_task(self._tasks.pop(event.directory))
        self._progress.advance(self._overall)
        if event.kind == "failed":
            self.failures[event.directory] = event.problem
            self._console.print(f"[red]failed[/]    {label}", soft_wrap=True)
            return
        result = Run(event.directory).result or {}
        value = result["metrics"]["test"].get(self._metric)
        quality = "" if value is None else f", {self._metric} {value:.4f}"
        cpu = result["cost"]["fit_cpu_seconds"]
        self._console.print(f"[green]finished[/]  {label}: {cpu:.1f} s CPU{quality}", soft_wrap=True)

    def pulse(self) -> None:
        """Read how far the running runs are, from their curves."""
        if self._progress.disable or time.monotonic() - self._read_at < _REFRESH_SECONDS:
            return
        self._read_at = time.monotonic()
        for directory, task in self._tasks.items():
            epoch, note = _last_of_curves(directory / CURVES_FILE)
            self._progress.update(task, completed=epoch, note=note)


def print_leaderboard(plan: Sweep, options: SweepOptions) -> None:
    """One table per split, and where everything lies."""
    console = Console(highlight=False)
    for split in plan.splits:
        folder = f"-{split.fingerprint}"
        runs = [run for run in plan.finished_runs if run.directory.parts[-4].endswith(folder)]
        if not runs:
            continue
        rows = leaderboard(runs, options.metric)
        title = f"{split.dataset}, split {split.fingerprint}: {split.config.protocol}, ties={split.config.ties}"
        console.print(_table(rows, title + (", SYNTHETIC DATA" if split.synthetic else "")))
    console.print(
        "CPU s: of one fit; MB: peak memory; ms: CPU time of a single request, median.\n"
        f"Results: {options.output}    Page: recascade report {options.output}"
    )


def _table(rows: list[LeaderboardRow], title: str) -> Table:
    shared = shared_changes(rows)
    caption = "all runs: " + " ".join(f"{key}={value}" for key, value in shared.items()) if shared else None
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method", min_width=14, overflow="fold")
    table.add_column("seeds", justify="right")
    metrics = [name for name in _COLUMNS if any(name in row.means for row in rows)]
    for name in [*metrics, "CPU s", "MB", "ms"]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _name(row, shared),
            str(len(row.seeds)),
            *(_mean(row, name) for name in metrics),
            f"{row.fit_cpu_seconds:.1f}",
            f"{row.peak_memory_bytes / 1e6:.0f}",
            "" if row.latency_p50 is None else f"{row.latency_p50:.2f}",
        )
    return table


def _name(row: LeaderboardRow, shared: Mapping[str, Any]) -> str:
    """Method and variant, and below it what sets this row apart."""
    first = row.method if row.variant == "default" else f"{row.method} {row.variant}"
    return "\n".join([first, *(f" {key}={value}" for key, value in row.changes.items() if key not in shared)])


def _mean(row: LeaderboardRow, metric: str) -> str:
    if metric not in row.means:
        return ""
    deviation = row.deviations[metric]
    return f"{row.means[metric]:.4f}" + ("" if deviation is None else f" ±{deviation:.4f}".replace("±0.", "±."))


def _label(directory: Path) -> str:
    return " ".join(directory.parts[-3:])


def _last_of_curves(path: Path) -> tuple[int, str]:
    """The epoch a run is in, counted from 1, and the newest value of its curves."""
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except FileNotFoundError:
        return 0, ""
    if not rows:
        return 0, ""
    last = rows[-1]
    try:
        return int(last["epoch"]), f"{last['name']} {float(last['value']):.4g}"
    except (KeyError, TypeError, ValueError):
        # The row is being written at this moment; the next look finds it whole.
        return 0, ""
