"""``recascade relaygr``: the cluster study."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def commands() -> None:
    """Ranking with long histories inside the latency budget."""


@commands.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the study.")
def study(overrides: tuple[str, ...], output: Path) -> None:
    """Simulate a cluster in virtual time and write what the relay is worth in which setting, as one page.

    Settings are dotted keys with values: study.… (questions, seeds, device), workload.… (traffic) and relay.… A study
    that was stopped goes on where it was.

    Example: recascade relaygr study --output runs/relaygr/study study.experiments=[reuse,loss] workload.slack_ms=80
    """
    from rich.progress import Progress

    from recascade.settings import parse_overrides
    from recascade_relaygr.study.study import PAGE, run_study

    with Progress(transient=True) as bar:
        task = bar.add_task("simulating", total=None)
        tables = run_study(
            output, parse_overrides(overrides), lambda done, all_: bar.update(task, completed=done, total=all_)
        )
    for table in tables:
        click.echo(table.experiment.title)
        for series, row in zip(table.experiment.series, table.rows, strict=True):
            means = "  ".join(f"{figure.mean:.3g}" for figure in row)
            click.echo(f"  {series.label}: {means}")
    click.echo(f"the page: {output / PAGE}")
