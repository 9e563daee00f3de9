"""``recascade doctor``: is everything here that runs need?"""

from __future__ import annotations

import click

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "red")}


@click.command()
@click.option("--data", metavar="NAME|PATH", help="Also look at this data set.")
def command(data: str | None) -> int:
    """Check versions, methods, devices, disk and data, and make a trial run. Exit status 1 when something will fail."""
    from recascade.bench.doctor import examine

    problems = 0
    for finding in examine(data):
        mark, colour = _MARKS[finding.state]
        click.echo(f"{click.style(f'{mark:>7}', fg=colour)}  {finding.subject}: {finding.text}")
        problems += finding.state == "problem"
    return 1 if problems else 0
