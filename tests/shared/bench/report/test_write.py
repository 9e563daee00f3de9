"""The command ``recascade report``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recascade.cli.report import command
from recascade.errors import ConfigurationError, DataError


def test_three_files_are_written_beside_the_runs(sweep: Path) -> None:
    result = CliRunner().invoke(command, [str(sweep)], catch_exceptions=False)
    assert result.exit_code == 0
    written = [Path(line) for line in result.output.split()]
    assert written == [sweep / "report.html", sweep / "report.md", sweep / "report.csv"]
    assert all(path.stat().st_size > 1000 for path in written)


def test_title_output_and_reference_can_be_chosen(sweep: Path, tmp_path: Path) -> None:
    arguments = [
        str(sweep),
        "--output",
        str(tmp_path / "new" / "page"),
        "--title",
        "Groceries",
        "--reference",
        "sasrec",
    ]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert "<h1>Groceries</h1>" in page
    assert "Difference to sasrec" in page


def test_user_mistakes_are_sentences(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        CliRunner().invoke(command, [str(tmp_path / "nowhere")], catch_exceptions=False)
    with pytest.raises(ConfigurationError, match="Did you mean 'sasrec'"):
        CliRunner().invoke(command, [str(sweep), "--reference", "sasrc"], catch_exceptions=False)
