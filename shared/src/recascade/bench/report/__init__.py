"""The report: run directories in; one self-contained HTML page, a Markdown file and CSV tables out."""
