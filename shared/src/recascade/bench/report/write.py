"""Writes the report's three files."""

from __future__ import annotations

from pathlib import Path

from recascade.bench.report.page import default_title, render_page
from recascade.bench.report.report import Report
from recascade.bench.report.tables import csv_table, markdown
from recascade.files import write_atomically


def write_report(report: Report, page: Path, *, title: str | None = None) -> list[Path]:
    """Write the page, and beside it a Markdown file and a CSV file of the same name.

    Args:
        report: what ``collect`` returned.
        page: path of the HTML file.
        title: heading; made from the names of the data by default.

    Returns:
        The paths of page, Markdown and CSV.

    Raises:
        DataError: the disk is full or the folder cannot be written; older files stay as they were.
    """
    title = title or default_title(report)
    contents = {
        page: render_page(report, title=title),
        page.with_suffix(".md"): markdown(report, title),
        page.with_suffix(".csv"): csv_table(report),
    }
    for path, text in contents.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(contents)
