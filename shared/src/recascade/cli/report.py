"""``recascade report``: finished runs as one page, a Markdown file and a CSV file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; Markdown and CSV are written beside it.  [default: DIRECTORY/report.html]",
)
@click.option("--title", help="Heading of the page.  [default: names the data]")
@click.option("--metric", help="Metric shown first.  [default: ndcg@10]")
@click.option(
    "--reference",
    help="Method that differences are taken to.  [default: the untrained method that is best on validation]",
)
@click.option(
    "--all", "everything", is_flag=True, help="Show every set of overrides, not only each method's best on validation."
)
def command(
    directory: Path, output: Path | None, title: str | None, metric: str | None, reference: str | None, everything: bool
) -> None:
    """Make a page of all finished runs in or below DIRECTORY.

    Runs that were measured on different splits or by different rules come into separate leaderboards.

    Example: recascade report runs --reference personal-frequency
    """
    from recascade.bench.report.report import collect
    from recascade.bench.report.write import write_report

    report = collect(directory, metric=metric, reference=reference, every_configuration=everything)
    page = output or directory / "report.html"
    for path in write_report(report, page if page.suffix else page.with_suffix(".html"), title=title):
        click.echo(path)
