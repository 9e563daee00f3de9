"""The page in a real browser: it loads nothing, reports no error, switches metrics, sorts, and fits any screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from recascade.bench.report.page import render_page
from recascade.bench.report.report import collect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser found (looked for {', '.join(BROWSERS)})")

OUTER = """<!doctype html><meta charset="utf-8"><pre id="seen"></pre>
<script>
addEventListener("message", (event) => {{ document.getElementById("seen").textContent = event.data; }});
</script>
<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe>
"""
PROBE = Path(__file__).with_name("probe.js").read_text(encoding="utf-8")


def browse(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1600,1000",
        "--virtual-time-budget=3000",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def probe(page: str, folder: Path, width: int) -> dict[str, Any]:
    """What the probe saw in a frame of this width; browser windows themselves cannot be as narrow as a telephone."""
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    outer = folder / "outer.html"
    outer.write_text(OUTER.format(width=width), encoding="utf-8")
    result = browse(outer, folder)
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'<pre id="seen">(.+?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stdout[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    assert seen["width"] == width
    return seen


@pytest.fixture
def page(sweep: Path, make_run: Callable[..., Path]) -> str:
    for method, strength, cost in (("item-knn", 0.4, 3.0), ("transition", 0.3, 0.5), ("co-visit", 0.45, 2.0)):
        make_run(sweep, method, strength=strength, trained=False, cost_scale=cost)
    for dimension in (32, 64, 128):
        make_run(sweep, "hstu", strength=1.0, overrides={"model.dimension": dimension}, cost_scale=dimension / 64)
    return render_page(collect(sweep))


def test_page_sorts_and_switches_metrics_without_errors_or_requests(page: str, tmp_path: Path) -> None:
    found = probe(page, tmp_path, 1400)
    assert found["resources"] == []
    assert (found["tables"], found["tables_after"]) == (1, 1), "one leaderboard is visible at a time"
    assert "NDCG@10" in found["caption"] and "MRR@5" in found["caption_after"]
    assert found["ranked"][0] == "sasrec" and found["ranked"] != sorted(found["ranked"])
    assert found["by_name"] == sorted(found["ranked"])
    assert found["by_name_again"] == sorted(found["ranked"], reverse=True)
    assert (found["by_cost"][0], found["by_cost"][-1]) == ("transition", "gru4rec")
    assert found["direction"] == "ascending"


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_page_fits_the_screen_and_no_text_of_a_chart_covers_another(page: str, tmp_path: Path, width: int) -> None:
    found = probe(page, tmp_path, width)
    assert found["too_wide"] == [], "the page itself never scrolls sideways"
    assert found["content"] <= found["width"]
    assert found["overlapping_names"] == 0
    assert found["overlapping_ticks"] == 0


def test_without_its_script_the_page_still_ranks_and_switches_metrics(page: str, tmp_path: Path) -> None:
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "<script" not in bare
    found = probe(bare, tmp_path, 1400)
    assert "by_name" not in found, "sorting needs JavaScript and is not offered without it"
    assert found["ranked"][0] == "sasrec"
    assert (found["tables"], found["tables_after"]) == (1, 1)
    assert "NDCG@10" in found["caption"] and "MRR@5" in found["caption_after"]
