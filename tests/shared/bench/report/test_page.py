from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recascade.bench.report.page import render_page
from recascade.bench.report.report import collect

MakeRun = Callable[..., Path]

VOID = {"meta", "link", "input", "br", "img", "hr"}
MOMENT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Checker(HTMLParser):
    """Refuses elements that are closed in the wrong order, and gathers identifiers, links and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tables = 0
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tables += tag == "table"
        for name, value in attributes:
            if name == "id":
                self.identifiers.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            if name in ("src", "srcset", "data", "action") or (name == "href" and tag not in ("a", "use")):
                self.loads.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture
def everything(sweep: Path, make_run: MakeRun) -> Path:
    """A leaderboard, an ablation, another tie rule, a failed and an unfinished run."""
    for dimension in (32, 128):
        for dropout in (0.2, 0.5):
            make_run(sweep, "hstu", strength=1.0, overrides={"model.dimension": dimension, "model.dropout": dropout})
    for method in ("popularity", "sasrec"):
        make_run(sweep, method, strength=0.5, fingerprint="0123456789abcdef", ties="file", trained=method == "sasrec")
    make_run(sweep, "tiger", failed="The loss is not a number at step 412.")
    (make_run(sweep, "sasrec", 9) / "result.json").unlink()
    return sweep


def test_page_is_well_formed_has_unique_identifiers_and_no_dead_links(everything: Path) -> None:
    found = check(render_page(collect(everything)))
    assert len(set(found.identifiers)) == len(found.identifiers)
    assert {link.removeprefix("#") for link in found.links} <= set(found.identifiers)


def test_page_loads_nothing(everything: Path) -> None:
    page = render_page(collect(everything))
    assert check(page).loads == ["data:,"]
    assert "http://" not in page and "https://" not in page
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_every_table_of_results_is_followed_by_its_rules(everything: Path) -> None:
    page = render_page(collect(everything))
    for section in ("leaderboard", "heat", "effects"):
        tables = re.findall(rf'<table class="[^"]*\b{section}\b.*?</table>(.*?)(?=<table|<h3|<h2)', page, re.DOTALL)
        assert tables, section
    for fingerprint, ties in (("3f9a1c07d2e845b6", "shuffle"), ("0123456789abcdef", "file")):
        rules = (
            f"Split {fingerprint} · ties: {ties} · last-basket · filter: events per user ≥ 5, events per item ≥ 5 · "
            "cold items: miss · catalogue: training · seen items: may be recommended · full ranking"
        )
        leaderboards = page.count(f"on split {fingerprint}</caption>")
        assert leaderboards == 9, "one for each of three metrics and three cutoffs"
        assert page.count(rules) >= 2 * leaderboards, "under leaderboard and groups"


def test_synthetic_data_and_simulated_values_are_labelled(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path / "real", "popularity", trained=False, changes={"data": {"synthetic": False}})
    page = render_page(collect(tmp_path / "real"))
    assert "synthetic data" not in page and "simulated" not in "".join(check(page).text)
    make_run(tmp_path / "fake", "popularity", trained=False, changes={"simulated": ["latency_p50"]})
    page = render_page(collect(tmp_path / "fake"))
    assert ">synthetic data<" in page
    assert page.count('<em class="tag warning">simulated</em>') == 9, "in the latency column of each metric's table"


def test_names_cannot_smuggle_markup_into_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    make_run(tmp_path, "popularity", trained=False, changes={"data": {"name": evil, "terms": evil}, "device": evil})
    make_run(tmp_path, "sasrec", failed=evil)
    page = render_page(collect(tmp_path), title=evil)
    assert "<script>alert" not in page
    assert check(page).tables > 0


def test_equal_runs_give_an_equal_page(everything: Path) -> None:
    assert render_page(collect(everything), generated=MOMENT) == render_page(collect(everything), generated=MOMENT)


def test_one_bare_run_still_makes_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    bare = {
        "groups": None,
        "cost": {"latency_ms": None, "targets_per_second": None, "parameters": None, "epochs": None},
        "split": {"tied_target_share": None, "counts": None, "filters": {}},
        "data": {"terms": ""},
    }
    directory = make_run(tmp_path, "popularity", trained=False, changes=bare)
    page = render_page(collect(tmp_path))
    found = check(page)
    assert "terms of use not known" in "".join(found.text)
    assert "filter: none" in page
    assert str(directory) not in page


def test_page_shows_configuration_versions_and_the_command_of_each_run(everything: Path) -> None:
    text = "".join(check(render_page(collect(everything))).text)
    assert "recascade run hstu --data invented-groceries split.protocol=last-basket" in text
    assert "model.dimension=128 model.dropout=0.5" in text
    assert "max_epochs: 12" in text
    assert re.search(r"torch\s+2\.13\.0", text)
    assert "The loss is not a number at step 412." in text
    assert "1 run was interrupted" in text
    assert "under 2 tie rules" in text


def test_training_curves_stand_only_for_trained_methods(sweep: Path) -> None:
    page = render_page(collect(sweep))
    cards = re.findall(r"<figure><figcaption><b>(.*?)</b>", page)
    assert cards == ["gru4rec", "sasrec"]
    assert "NDCG@10, validation" in page and "Training loss, own scale" in page
