"""The service over HTTP, while its stages are killed, slowed and swapped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from toy_stages import toy_stages

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from http_service import Ask, answering

from recascade.cascade.catalogue import Catalogue
from recascade.cascade.histories import Histories
from recascade.cascade.live_stages import SLOTS, LiveStages
from recascade.cascade.pipeline import Pipeline
from recascade.cascade.serve_config import ServeConfig
from recascade.cascade.service import CascadeService
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split
from recascade.errors import DataError
from recascade.models.popularity import Popularity
from recascade.serving.http import application
from recascade.serving.metrics import Metrics

ITEMS = 40
USERS = 30
JSON = {"content-type": "application/json"}


@dataclass
class Served:
    ask: Ask
    service: CascadeService


@pytest.fixture
def served(encoded_split: Callable[..., EncodedSplit], tmp_path: Path) -> Iterator[Served]:
    data = encoded_split([[user % ITEMS, (user + 1) % ITEMS] for user in range(USERS)], items=ITEMS)
    config = ServeConfig(retriever_deadline=100, ranker_deadline=100, reranker_deadline=100, threads=8)
    metrics = Metrics()
    pipeline = Pipeline(Popularity.fit(data), ITEMS, config)

    def load(folder: str) -> LiveStages:
        if folder == "missing":
            raise DataError("missing holds no trained cascade.")
        return toy_stages(ITEMS, version=folder)

    service = CascadeService(
        toy_stages(ITEMS),
        pipeline,
        Catalogue(data, Split(tmp_path, data.manifest)),
        Histories(data, most_events=5, most_users=2),
        load,
        metrics,
    )
    app = application(service.routes(), metrics, health=service.health, threads=8, close=pipeline.close)
    with answering(app) as ask:
        yield Served(ask, service)


def of(stages: LiveStages, slot: str) -> Any:
    found = getattr(stages, slot).stage
    return found.reranker if slot == "reranker" else found


def is_valid(answer: dict[str, Any], k: int) -> bool:
    items = answer["items"]
    known = {f"item-{number}" for number in range(ITEMS)}
    return len(items) == k == len(set(items)) and set(items) <= known


def test_a_thousand_requests_while_each_stage_in_turn_is_killed_slowed_and_swapped(served: Served) -> None:
    service = served.service
    phases = list(product(SLOTS, ("killed", "slow", "swapped")))
    requests = 1008 // len(phases)
    answered = 0
    with ThreadPoolExecutor(8) as clients:
        for slot, fault in phases:
            healthy = service.stages
            broken = of(healthy, slot)
            stop = threading.Event()
            swapper = threading.Thread(target=_swap_until, args=(service, slot, stop))
            if fault == "swapped":
                swapper.start()
            else:
                broken.fault = fault
            answers = list(
                clients.map(
                    lambda number: served.ask("GET", f"/recommend?user=user-{number % USERS}&k=10"), range(requests)
                )
            )
            stop.set()
            if fault == "swapped":
                swapper.join()
            broken.fault = ""
            for status, answer in answers:
                assert status == 200
                assert is_valid(answer, 10), answer
                marked = {each["stage"]: each["problem"] for each in answer["degraded"]}
                if fault != "swapped":
                    assert slot in marked
                else:
                    version = answer["versions"][slot].split()[1]
                    assert version == "1" or version.startswith("swap-")
            answered += len(answers)
    assert answered >= 1000
    assert any(not served.ask("GET", "/recommend?user=user-1")[1]["degraded"] for _ in range(100)), "healthy again"


def _swap_until(service: CascadeService, slot: str, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        service.swap(slot, toy_stages(ITEMS, version=f"swap-{number}"))
        stop.wait(0.002)


def test_one_stage_is_swapped_over_http_and_the_others_stay(served: Served) -> None:
    status, answer = served.ask("POST", "/admin/swap", {"stage": "ranker", "cascade": "two"}, JSON)
    assert (status, answer["versions"]) == (200, {"retriever": "toy 1", "ranker": "toy two", "reranker": "toy 1"})
    assert served.ask("GET", "/recommend?user=user-1")[1]["versions"] == answer["versions"]


@pytest.mark.parametrize(
    ("content", "headers", "status", "sentence"),
    [
        ({"stage": "ranker", "cascade": "two"}, {}, 403, "content-type"),
        ({"stage": "ranker", "cascade": "two"}, {**JSON, "host": "evil.example"}, 403, "this machine only"),
        ({"stage": "ranker", "cascade": "two"}, {**JSON, "x-forwarded-for": "10.0.0.1"}, 403, "this machine only"),
        ({"stage": "rankr", "cascade": "two"}, JSON, 400, "must be one of"),
        ({"stage": "ranker", "cascade": "missing"}, JSON, 400, "no trained cascade"),
    ],
)
def test_a_swap_that_must_not_happen_changes_nothing(
    served: Served, content: dict[str, str], headers: dict[str, str], status: int, sentence: str
) -> None:
    before = served.service.stages
    found, answer = served.ask("POST", "/admin/swap", content, headers)
    assert found == status and sentence in answer["error"]
    assert served.service.stages is before


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/recommend", "'user' is missing"),
        ("/recommend?user=", "not empty"),
        ("/recommend?user=user-1&k=0", "from 1 to 1000"),
        ("/recommend?user=user-1&kk=3", "no parameter 'kk'"),
        ("/recommend?user=user-1&time=soon", "whole number"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_in_a_sentence(served: Served, path: str, sentence: str) -> None:
    status, answer = served.ask("GET", path)
    assert status == 400 and sentence in answer["error"]


def test_a_body_over_the_limit_and_unknown_items_are_refused(served: Served) -> None:
    status, answer = served.ask("POST", "/recommend", {"user": "u" * (1 << 20)})
    assert status == 400 and "larger than" in answer["error"]
    status, answer = served.ask("POST", "/recommend", {"history": ["item-1", "nothing"]})
    assert status == 400 and "no item 'nothing'" in answer["error"]
    status, answer = served.ask("POST", "/recommend", {"history": ["item-1"], "user": "user-1"})
    assert status == 400 and "not both" in answer["error"]


def test_no_answer_tells_what_went_wrong_inside(served: Served) -> None:
    of(served.service.stages, "ranker").fault = "killed"
    status, answer = served.ask("GET", "/explain?user=user-1")
    assert status == 200
    assert "secret" not in str(answer) and "Traceback" not in str(answer) and "/" not in str(answer["degraded"])


def test_events_that_come_in_are_known_to_the_next_request(served: Served) -> None:
    assert served.ask("GET", "/recommend?user=new")[1]["known"] is False
    status, answer = served.ask("POST", "/events", {"user": "new", "items": ["item-3", "item-5"], "time": 10})
    assert (status, answer) == (200, {"user": "new", "added": 2})
    found = served.ask("GET", "/explain?user=new")[1]
    assert found["known"] is True
    assert [event["item"] for event in found["history"]] == ["item-5", "item-3"]
    served.ask("POST", "/events", {"user": "new", "items": ["item-7"]})
    newest = served.ask("GET", "/explain?user=new")[1]["history"][0]["item"]
    assert newest == "item-7", "without a time it happened after what is known"
    served.ask("POST", "/events", {"user": "new", "items": [f"item-{number}" for number in range(9)], "time": 11})
    assert served.ask("GET", "/explain?user=new")[1]["events"] == 5, "the latest five are kept"
    for other in ("other-1", "other-2"):
        served.ask("POST", "/events", {"user": other, "items": ["item-1"]})
    assert served.ask("GET", "/recommend?user=new")[1]["known"] is False, "of two users events are kept"


def test_a_new_item_is_recommended_beside_its_twin_from_the_next_request_on(served: Served) -> None:
    content = {"item": "fresh", "like": "item-3", "title": "Fresh thing"}
    assert served.ask("POST", "/items", content, JSON) == (200, {"item": "fresh", "like": "item-3", "new_items": 1})
    retriever, ranker, reranker = served.ask("GET", "/explain?user=user-1&k=20")[1]["stages"]
    for stage in (retriever, ranker):
        names = [item["item"] for item in stage["items"]]
        assert names.index("fresh") == names.index("item-3") + 1, "taken for its twin, which came first"
        assert len(names) == len(set(names)) == 20
    assert {"item": "fresh", "title": "Fresh thing"}.items() <= retriever["items"][4].items()
    assert "fresh" in [item["item"] for item in reranker["items"]]
    assert served.ask("GET", "/explain?user=user-1&k=20")[1]["degraded"] == []
    served.ask("POST", "/events", {"user": "new", "items": ["fresh"]})
    assert served.ask("GET", "/explain?user=new")[1]["history"][0] == {"item": "fresh", "title": "Fresh thing"}
    assert served.ask("POST", "/items", {**content, "like": "item-0"}, JSON)[1]["new_items"] == 1
    names = [item["item"] for item in served.ask("GET", "/explain?user=user-1")[1]["stages"][0]["items"]]
    assert names[:3] == ["item-0", "fresh", "item-1"], "given again, it has another twin"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"item": "fresh", "like": "nothing"}, "no item 'nothing'"),
        ({"item": "item-2", "like": "item-3"}, "from training"),
        ({"item": "fresh"}, "'like' is missing"),
    ],
)
def test_a_new_item_that_cannot_be_is_refused(served: Served, content: dict[str, str], sentence: str) -> None:
    status, answer = served.ask("POST", "/items", content, JSON)
    assert status == 400 and sentence in answer["error"]
    assert "fresh" not in str(served.ask("GET", "/explain?user=user-1&k=40")[1])


def test_an_explanation_says_where_each_item_stood_before(served: Served) -> None:
    _, found = served.ask("GET", "/explain?user=user-3&k=3")
    retriever, ranker, reranker = found["stages"]
    assert [item["item"] for item in retriever["items"]] == ["item-0", "item-1", "item-2"]
    assert all(item["before"] is None for item in retriever["items"])
    assert [(item["item"], item["before"]) for item in ranker["items"]] == [
        ("item-19", 20),
        ("item-18", 19),
        ("item-17", 18),
    ]
    assert [(item["item"], item["before"]) for item in reranker["items"]] == [
        ("item-10", 10),
        ("item-11", 9),
        ("item-12", 8),
    ]
    assert [event["item"] for event in found["history"]] == ["item-4", "item-3"]


def test_metrics_tell_the_time_of_each_stage_and_what_was_missed(served: Served) -> None:
    of(served.service.stages, "reranker").fault = "killed"
    served.ask("GET", "/recommend?user=user-1")
    page = served.ask("GET", "/metrics")[1]
    for slot in SLOTS:
        assert f'recascade_stage_seconds_count{{stage="{slot}"}} 1.0' in page
    assert 'recascade_degraded_total{problem="failed",stage="reranker"} 1.0' in page
    assert 'recascade_versions_info{ranker="toy 1",reranker="toy 1",retriever="toy 1"} 1.0' in page
