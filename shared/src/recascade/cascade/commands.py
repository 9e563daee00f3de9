"""``recascade cascade``: training all stages into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recascade.cascade.train import StageQuality

_SECTIONS = ("split", "model", "trainer", "evaluation")
_SHOWN = ("recall@10", "ndcg@10", "mrr@10")


@click.group()
def commands() -> None:
    """Retrieve, rank and re-rank as one recommender."""


@commands.command()
@click.argument("data")
@click.argument("output", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all stages.")
def train(data: str, output: Path, overrides: tuple[str, ...], seed: int) -> None:
    """Train all stages on DATA into the folder OUT, and measure the lists after each of them.

    Stages are retriever=…, ranker=… and reranker=…, each the name of a method or method/variant; 'recascade methods
    cascade' lists all keys. A command that was stopped goes on where it was.

    Example: recascade cascade train ml-1m OUT retriever=item-knn ranker=sasrec
    """
    from recascade.bench.config import compose
    from recascade.cascade.method import METHOD
    from recascade.cascade.train import train as train_cascade
    from recascade.settings import parse_overrides

    values = {
        key if key.partition(".")[0] in _SECTIONS else f"model.{key}": value
        for key, value in parse_overrides(overrides).items()
    }
    folder = Path(data).expanduser()
    where = str(folder.resolve()) if folder.is_dir() else data
    config = compose(METHOD, data=where, seed=seed, overrides=values)
    _print(train_cascade(config, output, lambda words: click.echo(words, err=True)))
    click.echo(f"Serve it with: recascade serve cascade {output}")


def _print(found: Sequence[StageQuality]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names = [name for name in _SHOWN if name in found[0].metrics] or list(found[0].metrics)[:3]
    table = Table(box=box.SIMPLE_HEAD, title="Test part, after each stage", title_justify="left")
    table.add_column("stage")
    table.add_column("method")
    for name in names:
        table.add_column(name, justify="right")
    for stage in found:
        table.add_row(stage.slot, stage.label, *(f"{stage.metrics[name]:.4f}" for name in names))
    Console(highlight=False, markup=False).print(table)
