"""How a sweep looks on a terminal: one line per running run, one per finished run, and a leaderboard at the end."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from recascade.bench.report.board import rank
from recascade.bench.report.entry import Entry, gather, shared_overrides, typed_overrides
from recascade.bench.report.record import RunRecord, records
from recascade.bench.report.rules import Rules, rules_of
from recascade.bench.runner import Event
from recascade.bench.store import Run

if TYPE_CHECKING:
    from recascade.bench.sweep import Sweep

_METRICS = ("ndcg@10", "recall@10")
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
        self._running: dict[Path, tuple[TaskID, str]] = {}
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
        label = escape(" ".join(event.directory.parts[-3:]))
        if event.kind == "started":
            trainer = Run(event.directory).config.trainer
            task = self._progress.add_task(label, total=trainer.max_epochs, note="")
            self._running[event.directory] = (task, trainer.monitor)
            return
        task, _ = self._running.pop(event.directory)
        self._progress.remove_task(task)
        if event.kind == "lost":
            self._console.print(f"[yellow]lost[/]      {label}: {escape(event.problem)}", soft_wrap=True)
            return
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
        for directory, (task, monitor) in self._running.items():
            epoch, note = _newest(Run(directory).curves, monitor)
            self._progress.update(task, completed=epoch, note=note)


def print_leaderboards(plan: Sweep, output: Path, metric: str) -> None:
    """One table per split and set of rules, and where everything lies."""
    # Settings hold brackets, which are no markup.
    console = Console(highlight=False, markup=False)
    finished, _, _ = records(list(plan.finished_runs))
    grouped: dict[tuple[str, bool, Rules], list[RunRecord]] = {}
    for run in finished:
        data = run.result["data"]
        grouped.setdefault((data["name"], data["synthetic"], rules_of(run)), []).append(run)
    for (name, synthetic, rules), runs in grouped.items():
        console.print(_table(gather(runs), f"{name}{' (SYNTHETIC DATA)' if synthetic else ''}", metric))
        shared = typed_overrides(shared_overrides(runs))
        if shared:
            console.print(f"All runs: {shared}")
        console.print(rules.sentence)
    console.print("CPU s: of one fit; MB: peak memory; ms: CPU time of a single request, median.")
    console.print(f"Results: {output}    Page: recascade report {output}", soft_wrap=True)


def _table(entries: Sequence[Entry], title: str, metric: str) -> Table:
    metrics = [name for name in dict.fromkeys((metric, *_METRICS)) if any(entry.value(name) for entry in entries)]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method", min_width=14, overflow="fold")
    for name in ["seeds", *metrics, "CPU s", "MB", "ms"]:
        table.add_column(name, justify="right", no_wrap=True)
    for entry in rank(entries, metric):
        changes = (f" {typed_overrides({key: value})}" for key, value in entry.distinctions.items())
        table.add_row(
            "\n".join([entry.name, *changes]),
            str(len(entry.seeds)),
            *(_mean(entry, name) for name in metrics),
            _cost(entry, "fit_cpu_seconds", 1, 1),
            _cost(entry, "peak_memory_bytes", 1e-6, 0),
            _cost(entry, "latency_p50", 1, 2),
        )
    return table


def _mean(entry: Entry, metric: str) -> str:
    value = entry.value(metric)
    if value is None:
        return ""
    deviation = "" if value.deviation is None else f" ±{value.deviation:.4f}".replace("±0.", "±.")
    return f"{value.mean:.4f}{deviation}"


def _cost(entry: Entry, name: str, factor: float, digits: int) -> str:
    value = entry.cost.get(name)
    return "" if value is None else f"{value.mean * factor:.{digits}f}"


def _newest(path: Path, monitor: str) -> tuple[int, str]:
    """The epoch a run is in, counted from 1, and the newest value of its loss or monitored metric."""
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["name"] in ("loss", monitor)]
        return int(rows[-1]["epoch"]), f"{rows[-1]['name']} {float(rows[-1]['value']):.4g}"
    except (FileNotFoundError, IndexError, KeyError, TypeError, ValueError):
        # No file or no such row yet, or the last one is being written at this moment: the next look finds it.
        return 0, ""
