"""How codes look on a terminal: their figures, and the usage of each level as bars."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recascade.files import write_atomically
from recascade.tokenizers.metrics import LevelUsage, code_metrics, level_usage, reconstruction_error
from recascade.tokenizers.tokenize import Tokenized

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BAR_WIDTH = 32
_DRAWING_WIDTH = 100


def show_codes(tokenized: Tokenized, title: str, drawing: Path | None = None) -> None:
    """Print the figures and bars, and write them as ``.svg`` or ``.html`` too where a path is given."""
    parts = [_figures(tokenized, title), _usage(tokenized)]
    console = Console(highlight=False, markup=False)
    for part in parts:
        console.print(part)
    if drawing is None:
        return
    paper = Console(record=True, width=_DRAWING_WIDTH, file=io.StringIO(), highlight=False, markup=False)
    for part in parts:
        paper.print(part)
    page = paper.export_svg(title=title) if drawing.suffix == ".svg" else paper.export_html()
    with write_atomically(drawing) as temporary:
        temporary.write_text(page, encoding="utf-8")


def bars(counts: np.ndarray, width: int) -> str:
    """Usage of the codes from the most to the least used one, as ``width`` blocks; a code that is used at all shows.

    >>> bars(np.array([0, 4, 8, 0]), 4)
    '█▄  '
    """
    falling = np.sort(counts)[::-1]
    heights = np.array([piece.mean() for piece in np.array_split(falling, min(width, len(falling)))])
    eighths = np.ceil(8 * heights / max(1, heights.max())).astype(int)
    return "".join(_EIGHTHS[eighth] for eighth in eighths)


def _figures(tokenized: Tokenized, title: str) -> Table:
    ids, content = tokenized.ids, tokenized.content
    # A digit makes every id unique: what is worth knowing is how far the levels before it came.
    sizes = ids.tokenizer.sizes
    codes = ids.codes[:, : len(sizes)]
    metrics = code_metrics(codes, sizes)
    vectors = ids.tokenizer.tuned(content.vectors)
    before = "Figures of the levels before the digit." if len(ids.sizes) > len(sizes) else None
    table = Table(
        title=f"{ids.tokenizer.name} on {title}",
        title_justify="left",
        caption=before,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("meaning")
    rows = [
        ("items", f"{metrics.items:,}", f"{int(content.unknown.sum()):,} without content, at the mean vector"),
        ("ids", f"{metrics.ids:,}", f"of {metrics.space:,} possible ({' × '.join(map(str, sizes))})"),
        ("compression", f"{metrics.compression_ratio:.4f}", "items / ids"),
        ("shared ids", f"{metrics.shared_id_rate:.2%}", "1 − one-to-one ids / ids"),
        ("lost items", f"{metrics.lost_item_rate:.2%}", "1 − ids / items"),
        ("largest id", f"{metrics.largest_id:,}", "items of the id that has most"),
        ("utilisation", f"{metrics.utilisation:.3g}", "ids / possible ids"),
        (
            "error",
            f"{reconstruction_error(vectors, ids.tokenizer.decode(codes)):.4f}",
            "variance that codes leave over",
        ),
        ("moved", f"{_moved(tokenized):.2%}", "items not at their nearest code"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _moved(tokenized: Tokenized) -> float:
    """Share of the items whose clustered levels differ from what a new item with the same vector would get."""
    ids = tokenized.ids
    quantiser = ids.tokenizer.quantiser
    nearest = quantiser.encode(ids.tokenizer.tuned(tokenized.content.vectors))
    return float((nearest != ids.codes[:, : len(quantiser.sizes)]).any(axis=1).mean())


def _usage(tokenized: Tokenized) -> Table:
    ids = tokenized.ids
    hashed = ids.tokenizer.hashed
    caption = f"The hashed level stands for {', '.join(hashed.keys)}." if hashed else None
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column("level", no_wrap=True)
    for name in ("codes", "used", "evenness"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("items per code, falling", no_wrap=True)
    for number, (usage, kind) in enumerate(zip(level_usage(ids.codes, ids.sizes), _kinds(tokenized), strict=True), 1):
        table.add_row(f"{number} {kind}", *_level(usage))
    return table


def _level(usage: LevelUsage) -> tuple[str | Text, ...]:
    return (
        f"{len(usage.counts):,}",
        f"{usage.used:.1%}",
        f"{usage.evenness:.3f}",
        Text(bars(usage.counts, _BAR_WIDTH), style="cyan"),
    )


def _kinds(tokenized: Tokenized) -> list[str]:
    tokenizer = tokenized.ids.tokenizer
    kinds = [""] * len(tokenizer.quantiser.sizes)
    if tokenizer.hashed:
        kinds.append("hashed")
    return kinds + ["digit"] * (len(tokenized.ids.sizes) - len(kinds))
