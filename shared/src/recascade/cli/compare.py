"""``recascade compare``: is one run better than another, on the same users?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recascade.bench.compare import Comparison


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN…")
@click.option(
    "--metric", "metrics", multiple=True, help="Per-user metric, as ndcg@10 or recall@10/explore; repeatable."
)
def command(runs: tuple[Path, ...], metrics: tuple[str, ...]) -> None:
    """Compare RUNS with the first of them: paired bootstrap intervals and a paired test with Holm's correction.

    A RUN is a run directory, or a folder of them: its seeds are averaged per user. Different splits are refused.

    Example: recascade compare runs/log-0123456789abcdef/popularity runs/log-0123456789abcdef/sasrec
    """
    from recascade.bench.compare import compare_runs

    _print(compare_runs(runs, metrics))


def _print(comparison: Comparison) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from recascade.bench.report.comparison import INTERVAL_WORDS, TEST_WORDS

    console = Console(highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, title=f"Compared with {comparison.reference.label}", title_justify="left")
    table.add_column("method", min_width=14, overflow="fold")
    table.add_column("metric", no_wrap=True)
    for name in ("mean", "difference", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry, differences in zip(comparison.others, comparison.differences, strict=True):
        for number, metric in enumerate(comparison.metrics):
            found, value = differences[metric], entry.value(metric)
            table.add_row(
                entry.label if number == 0 else "",
                metric,
                "" if value is None else f"{value.mean:.4f}",
                f"{found.mean:+.4f}",
                f"{found.low:+.4f} {found.high:+.4f}",
                ("<.001" if found.p_value < 0.001 else f"{found.p_value:.3f}")
                + (" " if found.verdict == "open" else "*"),
            )
        table.add_section()
    console.print(table)
    console.print(comparison.rules.sentence)
    console.print(f"{INTERVAL_WORDS} {TEST_WORDS} *: below 0.05.")
