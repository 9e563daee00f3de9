"""``recascade data fetch``: public data sets by name, and what there is to fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recascade.data.fetch.catalogue import CatalogueEntry


@click.command("fetch")
@click.argument("name", required=False)
@click.option("--list", "list_entries", is_flag=True, help="Show what can be fetched, from where, and its terms.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Give a server up that sends nothing for so long.",
)
def fetch(name: str | None, list_entries: bool, timeout: float) -> None:
    """Fetch the public data set NAME and import it, so that '--data NAME' finds it.

    What is there already is not fetched again, and a fetch that was cut off goes on. Entries of your own go into
    RECASCADE_HOME/catalogue.yaml. Example: recascade data fetch ml-1m
    """
    from recascade.data.fetch.catalogue import catalogue, user_catalogue

    if list_entries:
        for entry in catalogue().values():
            _show(entry)
        click.echo(f"Entries of your own: {user_catalogue()}")
    elif name is None:
        raise click.UsageError("Name a data set, or see all with --list.")
    else:
        _fetch(name, timeout)


def _fetch(name: str, timeout: float) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from recascade.data.fetch.download import Patience
    from recascade.data.fetch.fetch import fetch as fetch_data

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {}

        def report(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file)
            progress.update(tasks[file], completed=done, total=total)

        dataset = fetch_data(name, report, Patience(timeout=timeout))
    counts = dataset.facts["counts"]
    click.echo(
        f"{name} is in {dataset.path}: {counts['interactions']:,} events of {counts['users']:,} users and "
        f"{counts['items']:,} items."
    )
    if dataset.terms:
        click.echo(f"Terms: {dataset.terms}")
    click.echo(f"Use it with: --data {name}")


def _show(entry: CatalogueEntry) -> None:
    size = "size not published" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"
    click.echo(f"{click.style(entry.name, bold=True)}  {entry.about} ({size})")
    click.echo(f"    terms    {entry.terms or 'not recorded'}")
    for file in entry.files:
        vouched = (
            file.checksum.partition(":")[0] if file.checksum else "no checksum: that of the first fetch is recorded"
        )
        click.echo(f"    file     {file.name} ({vouched}) from {', '.join(file.urls)}")
    click.echo(f"    checked  {entry.checked or 'not recorded'}")
