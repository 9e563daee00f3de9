"""``recascade cs3``: learning a stream online, and comparing such runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.group()
def commands() -> None:
    """Two towers that learn online."""


@commands.command()
@click.argument("data")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
@click.option("--variant", default="default", show_default=True, help="Variant: see 'recascade methods cs3'.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the learner.")
def learn(data: str, overrides: tuple[str, ...], output: Path, variant: str, seed: int) -> None:
    """Learn the events of DATA once, in the order of time, and measure each prediction made before its label was used.

    Settings are dotted keys with values: model.… as for 'recascade run cs3', stream.… (labels, delays, lateness) and
    pace.… (checkpoints). A run that was stopped goes on where it was.

    Example: recascade cs3 learn ml-100k --output runs/online stream.label=rating stream.positive_from=4
    """
    import torch
    from rich.progress import Progress

    from recascade.data.sources import resolve
    from recascade.errors import ConfigurationError, did_you_mean
    from recascade.settings import parse_overrides
    from recascade_cs3.method import VARIANTS
    from recascade_cs3.online import compose_online, run_online

    if variant not in VARIANTS:
        raise ConfigurationError(f"Method 'cs3' has no variant {variant!r}.{did_you_mean(variant, VARIANTS)}")
    chosen = {f"model.{key}": value for key, value in VARIANTS[variant].items()}
    config = compose_online(data, seed, chosen | parse_overrides(overrides))
    dataset = resolve(data)
    # A micro-batch is too small to share out; more threads would only wait for each other.
    torch.set_num_threads(1)
    with Progress(transient=True) as bar:
        task = bar.add_task("learning", total=None)
        result = run_online(config, dataset, output, lambda done, all_: bar.update(task, completed=done, total=all_))
    measured, cost = result["prequential"], result["cost"]
    origin = " (synthetic data)" if result["data"]["synthetic"] else ""
    sampled = result["data"]["sampled_negatives"]
    note = f"; {sampled:,} of all events are sampled impressions" if sampled else ""
    click.echo(
        f"{measured['events']:,} events after the warm-up{origin}, {measured['positives_share']:.1%} positive{note}"
    )
    click.echo(_metrics_line(measured))
    if "ranker" in measured:
        click.echo(f"of the ranker: {_metrics_line(measured['ranker'])}")
    click.echo(f"{cost['events_per_cpu_second']:,.0f} events per CPU second; the run: {output}")


def _metrics_line(metrics: dict[str, Any]) -> str:
    names = {"AUC": "auc", "GAUC": "gauc", "LogLoss": "log_loss"}
    # An AUC of events of one label is None.
    return "   ".join(
        f"{name} undefined" if metrics[key] is None else f"{name} {metrics[key]:.4f}" for name, key in names.items()
    )
