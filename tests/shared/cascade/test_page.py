"""The page in a real browser, served by a real service."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from importlib.resources import files
from pathlib import Path

import pytest
from toy_stages import toy_stages

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from http_service import listening

from recascade.cascade.catalogue import Catalogue
from recascade.cascade.histories import Histories
from recascade.cascade.live_stages import LiveStages
from recascade.cascade.pipeline import Pipeline
from recascade.cascade.serve_config import ServeConfig
from recascade.cascade.service import CascadeService
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split
from recascade.models.popularity import Popularity
from recascade.serving.http import application
from recascade.serving.metrics import Metrics

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
PAGE = (files("recascade.cascade") / "page.html").read_text(encoding="utf-8")
ITEMS = 40


def test_the_page_names_nothing_outside() -> None:
    assert re.findall(r"https?://|//[a-z]|\bsrc=|<link|@import|url\(", PAGE) == []


@pytest.fixture
def service(encoded_split: Callable[..., EncodedSplit], tmp_path: Path) -> CascadeService:
    data = encoded_split([[user, user + 1] for user in range(6)], items=ITEMS)
    config = ServeConfig(retriever_deadline=5000, ranker_deadline=5000, reranker_deadline=5000)

    def load(folder: str) -> LiveStages:
        pytest.fail(f"the page swapped a stage for {folder}")

    return CascadeService(
        toy_stages(ITEMS),
        Pipeline(Popularity.fit(data), ITEMS, config),
        Catalogue(data, Split(tmp_path, data.manifest)),
        Histories(data, most_events=5, most_users=2),
        load,
        Metrics(),
    )


@pytest.mark.skipif(BROWSER is None, reason=f"no browser found (looked for {', '.join(BROWSERS)})")
@pytest.mark.parametrize("broken", [False, True])
def test_the_page_shows_a_request_stage_by_stage(service: CascadeService, tmp_path: Path, broken: bool) -> None:
    if broken:
        assert service.stages.reranker is not None
        service.stages.reranker.stage.reranker.fault = "killed"  # type: ignore[attr-defined]
    app = application(service.routes(), Metrics(), page=PAGE)
    with listening(app) as address:
        done = subprocess.run(
            [
                str(BROWSER),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--no-first-run",
                "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--virtual-time-budget=5000",
                "--dump-dom",
                address,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    columns = dict(re.findall(r'<section data-stage="(\w+)">(.*?)</section>', done.stdout, re.DOTALL))
    assert list(columns) == ["history", "retriever", "ranker", "reranker"], done.stdout[-3000:]
    shown = {name: re.findall(r'data-item="([^"]+)"', column) for name, column in columns.items()}
    assert shown["history"] == ["item-1", "item-0"]
    assert shown["retriever"] == [f"item-{number}" for number in range(10)]
    assert shown["ranker"] == [f"item-{number}" for number in range(19, 9, -1)]
    moves = {
        name: unescape(" ".join(re.findall(r'class="move \w+"[^>]*>([^<]*)', text))) for name, text in columns.items()
    }
    assert moves["ranker"].startswith("▲ 19 ▲ 17"), "item-19 came from place 20 to 1, item-18 from 19 to 2"
    assert re.search(r"total</span>.*?[\d.]+ ms", done.stdout, re.DOTALL)
    if broken:
        assert shown["reranker"] == shown["ranker"]
        assert "it failed: the ranker's order instead" in unescape(columns["reranker"])
        assert "Degraded: reranker." in done.stdout
    else:
        assert shown["reranker"] == [f"item-{number}" for number in range(10, 20)]
        assert moves["reranker"].startswith("▲ 9 ▲ 7") and moves["reranker"].endswith("▼ 9")
        assert "Degraded" not in done.stdout.partition("<script>")[0]
