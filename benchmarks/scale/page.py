"""The measured tables as text, and as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from recascade.bench.report.charts import Line, curves
from recascade.bench.report.scales import linear_scale, logarithmic_scale

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<header class="masthead"><p class="overline">recascade <span>scale</span></p><h1>{{ title }}</h1>
<p class="summary">{{ summary }}</p></header>
<main>
{% for table in tables %}
<section>
<h2>{{ table.title }}</h2>
<p class="lead">{{ table.text }}</p>
{% for chart in table.charts %}{{ chart }}{% endfor %}
<div class="scroll"><table>
<thead><tr>{% for name in table.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div>
</section>
{% endfor %}
</main>
</body>
</html>
"""


@dataclass
class Table:
    """One question: its heading, what was done, and a row of texts for each setting."""

    title: str
    text: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)

    def draw(self, x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> None:
        """Add a curve on a logarithmic axis."""
        if len(x) > 1:
            scales = logarithmic_scale(x), linear_scale(y, include=[0.0])
            self.charts.append(curves([Line(x, y)], *scales, label=y_label, x_label=f"{x_label}, logarithmic"))

    def markdown(self) -> str:
        """Heading and table."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"## {self.title}\n\n{self.text}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def render(title: str, summary: str, tables: Sequence[Table]) -> str:
    """The page, with the style of the benchmark's report."""
    style = files("recascade.bench.report").joinpath("templates/style.css").read_text("utf-8")
    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(title=title, summary=summary, tables=tables, style=Markup(style))
