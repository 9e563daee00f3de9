"""``recascade relaygr``: the cluster study and the load generator."""

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


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--url", default="", help="Of a service that serves RUN; without it, an engine in this process is asked.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the figures.")
def load(run: Path, overrides: tuple[str, ...], url: str, output: Path | None) -> None:
    """Send requests of RUN's own users, at their own pace, and tell how long answers took and how they came about.

    RUN is the folder of one run of 'recascade run relaygr'. Requests are an open loop: each is sent when it is due,
    whatever became of those before. Settings are dotted keys with values: load.… (rate, bursts, think-times) and,
    without --url, serve.… and relay.…

    Example: recascade relaygr load runs/relaygr/0 load.rate=20 load.burst=3 --url http://127.0.0.1:8000
    """
    from recascade.files import write_json
    from recascade.settings import parse_overrides
    from recascade_relaygr.load.load import measure_load

    figures = measure_load(run, parse_overrides(overrides), url)
    if output is not None:
        write_json(output, figures)
    click.echo(
        f"{figures['offered']:,} requests, {figures['answered']:,} answered, {figures['kept']:.1%} within the limit"
    )
    if figures["answered"]:
        click.echo(f"P50 {figures['p50_ms']:.1f} ms   P99 {figures['p99_ms']:.1f} ms")
        click.echo("   ".join(f"{path} {share:.1%}" for path, share in figures["paths"].items()))
        click.echo(f"the generator itself was late by {figures['generator_late_p99_ms']:.1f} ms (P99)")
    for failure, count in figures["failures"].items():
        click.echo(f"{count:,} times {failure}")


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file of durations."
)
@click.option("--sweeps", type=click.IntRange(min=2), default=20, show_default=True, help="Samples of each duration.")
@click.option("--page-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens of a page.")
@click.option("--device", default="cpu", show_default=True, help="Where the ranker computes: cpu, cuda.")
def profile(run: Path, output: Path, sweeps: int, page_tokens: int, device: str) -> None:
    """Measure how long the ranker of RUN takes on this machine, for the study to simulate it.

    RUN is the folder of one run of 'recascade run relaygr'.

    Example: recascade relaygr profile runs/relaygr/0 --output costs.json, then recascade relaygr study
    study.costs=costs.json --output runs/relaygr/study
    """
    from recascade.files import write_json
    from recascade.serving.one_thread import compute_on_one_thread
    from recascade_relaygr.engine.device_name import check_device
    from recascade_relaygr.run_folder import read_run
    from recascade_relaygr.study.profile import measure_durations

    check_device("--device", device)
    compute_on_one_thread()
    served = read_run(run)
    durations = measure_durations(
        served.model.to(device),
        len(served.items),
        candidates=(1, 128, 512),
        page_tokens=page_tokens,
        sweeps=sweeps,
        device=device,
    )
    write_json(output, durations)
    click.echo(f"{sweeps} sweeps over {len(durations['lengths'])} lengths on {durations['device']}: {output}")
