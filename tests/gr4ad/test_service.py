"""The service: an index that changes whole, answers under load, mistakes as sentences."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from gr4ad_runs import Prepared, experiment, fitted
from http_service import Ask, answering

from recascade.errors import ConfigurationError, DataError
from recascade.tokenizers.semantic_ids_file import save_semantic_ids
from recascade_gr4ad.fit import semantic_ids
from recascade_gr4ad.result_cache import CachedList
from recascade_gr4ad.run_folder import read_run
from recascade_gr4ad.serve import serve, service_of
from recascade_gr4ad.serve_config import ServeConfig
from recascade_gr4ad.service import GR4ADService

JSON = {"content-type": "application/json"}


def service(run_folder: Path, clock: Callable[[], float] | None = None, **settings: Any) -> GR4ADService:
    made = service_of(read_run(run_folder), ServeConfig(**settings))
    if clock is not None:
        made._clock = clock
    return made


def test_a_run_is_served_as_it_was_trained(prepared: Prepared, tmp_path: Path) -> None:
    from recascade.evaluation.requests import requests

    retriever = fitted(prepared, tmp_path / "run", "rspo", model__user_buckets=3)
    served = service(tmp_path / "run")
    rows = np.arange(6)
    best = retriever.retrieve(requests(prepared.data.events, prepared.data.test, rows), 5)
    for row, user in enumerate(prepared.data.test.users[rows].tolist()):
        answer = served.recommend(prepared.data.users.decode([user])[0], 5)
        assert answer.origin == "search"
        assert answer.items == prepared.data.items.decode(best.items[row].tolist())
        assert answer.scores == pytest.approx(best.scores[row].tolist(), abs=1e-4)


def test_the_same_user_gets_the_same_list_for_a_minute(run_folder: Path) -> None:
    now = [0.0]
    served = service(run_folder, lambda: now[0])
    first = served.recommend("u03", 5)
    now[0] = 59.0
    again = served.recommend("u03", 5)
    assert (first.origin, again.origin) == ("search", "cache") and again.items == first.items
    assert served.recommend("u03", 5, placement="feed").origin == "search"
    assert served.recommend("u04", 5).origin == "search"
    now[0] = 119.0
    assert served.recommend("u03", 5).origin == "search"


def test_a_history_of_its_own_is_neither_taken_from_the_cache_nor_kept_there(run_folder: Path) -> None:
    served = service(run_folder)
    asked = served.recommend("u03", 5, history=["i01", "no such ad", "i02"])
    assert asked.origin == "search"
    again = served.recommend("u03", 5, history=["i01", "i02"])
    assert again.origin == "search" and again.items == asked.items
    assert served.recommend("u03", 5).origin == "search"


def test_nobody_knows_this_user(run_folder: Path) -> None:
    served = service(run_folder)
    answer = served.recommend("nobody", 4)
    counts = dict(zip(served.run.items.ids.to_list(), served.run.popularity.tolist(), strict=True))
    assert answer.origin == "popular" and answer.scores == sorted(counts.values(), reverse=True)[:4]
    assert answer.items != served.recommend("u03", 4).items


def test_a_deleted_ad_is_gone_at_once_also_from_the_cache_and_from_the_popular(run_folder: Path) -> None:
    served = service(run_folder)
    first = served.recommend("u03", 3)
    popular = served.recommend("nobody", 1).items[0]
    served.index.delete([first.items[0], *({popular} - {first.items[0]})])
    again = served.recommend("u03", 3)
    assert again.origin == "search" and first.items[0] not in again.items and again.version == 1
    assert served.recommend("nobody", 1).items[0] != popular


def test_a_list_computed_before_a_deletion_and_kept_after_it_is_not_given(run_folder: Path) -> None:
    served = service(run_folder)
    first = served.recommend("u03", 3)
    served.index.delete([first.items[1]])
    served.cache.put("u03", "", CachedList(first.items, first.scores), served._clock())
    assert first.items[1] not in served.recommend("u03", 3).items


def vector_of(served: GR4ADService, run_folder: Path, name: str, prepared: Prepared) -> np.ndarray:
    from recascade_gr4ad.serve import _content_encoder

    encode = _content_encoder(run_folder, served.run)
    assert encode is not None
    table = prepared.split.items()
    assert table is not None
    return encode(table.filter(pl.col("item_id") == name).collect())


def test_a_new_ad_is_found_where_its_content_belongs_and_read_in_histories(
    prepared: Prepared, run_folder: Path
) -> None:
    served = service(run_folder)
    before = served.index.snapshot
    vector = vector_of(served, run_folder, "i05", prepared)
    after = served.index.upsert(["fresh"], vector, pl.DataFrame({"item_id": ["fresh"]}))
    assert len(after) == len(before) + 1 and "fresh" not in before.ids
    assert after.ids.code("fresh")[:2] == tuple(
        served.run.ids.tokenizer.encode(vector, pl.DataFrame({"item_id": ["fresh"]}))[0, :2].tolist()
    )
    everywhere = served.recommend("u03", 41)
    assert "fresh" in everywhere.items and len(set(everywhere.items)) == 41
    assert served.recommend("x", 5, history=["fresh"]).origin == "search"
    # What was there keeps its id.
    assert all(after.ids.code(name) == before.ids.code(name) for name in before.ids.item_ids)


def test_changed_content_moves_an_ad_and_its_old_id_is_free(prepared: Prepared, run_folder: Path) -> None:
    served = service(run_folder)
    old = served.index.snapshot.ids.code("i05")
    other = next(n for n in served.run.items.ids if served.index.snapshot.ids.code(n)[:2] != old[:2])
    vector = vector_of(served, run_folder, other, prepared)
    after = served.index.upsert(["i05"], vector)
    assert after.ids.code("i05")[:2] != old[:2] and len(after) == 40
    listed = served.recommend("u03", 41).items
    assert sorted(listed) == sorted(served.run.items.ids.to_list())


def test_a_change_that_fails_leaves_no_trace(prepared: Prepared, run_folder: Path) -> None:
    served = service(run_folder)
    before = served.index.snapshot
    good = vector_of(served, run_folder, "i05", prepared)
    bad = np.concatenate([good, np.full_like(good, np.nan)])
    with pytest.raises(DataError):
        served.index.upsert(["i05", "fresh"], bad)
    with pytest.raises(DataError):
        served.index.upsert(["i05"], good[:, :-1])
    with pytest.raises(DataError, match="twice"):
        served.index.upsert(["fresh", "fresh"], np.concatenate([good, good]))
    with pytest.raises(DataError, match="'no such ad'"):
        served.index.delete(["i05", "no such ad"])
    assert served.index.snapshot is before and before.alive("i05")


def test_requests_never_see_half_a_change(prepared: Prepared, run_folder: Path) -> None:
    """While ads come and go in pairs, no answer holds one of a pair without the other."""
    served = service(run_folder, cache_seconds=0.0, concurrency=4, wait_seconds=60.0)
    vectors = np.repeat(vector_of(served, run_folder, "i05", prepared), 2, axis=0)
    stop, seen = threading.Event(), set[int]()

    def change() -> None:
        while not stop.is_set():
            served.index.upsert(["left", "right"], vectors)
            served.index.delete(["left", "right"])

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(60):
            items = served.recommend("u03", 42).items
            seen.add(sum(name in ("left", "right") for name in items))
            assert len(items) == len(set(items)) >= 40
    finally:
        stop.set()
        writer.join()
    assert 1 not in seen


def test_a_request_under_way_reads_histories_by_the_ids_of_its_own_version(
    prepared: Prepared, run_folder: Path
) -> None:
    served = service(run_folder)
    old = served.index.snapshot
    other = next(n for n in served.run.items.ids if old.ids.code(n)[:2] != old.ids.code("i05")[:2])
    numbers, widths = [old.numbers["i05"]], old.retriever.widths
    before = served._search(old, "u03", numbers, 5, widths)
    served.index.upsert(["i05"], vector_of(served, run_folder, other, prepared))
    assert served._search(old, "u03", numbers, 5, widths) == before
    assert served._search(served.index.snapshot, "u03", numbers, 5, widths) != before


def test_ads_of_the_history_are_left_out_wherever_the_answer_comes_from(run_folder: Path) -> None:
    served = service(run_folder, exclude_seen=True, concurrency=1, wait_seconds=0.0)
    long = [f"i{number:02d}" for number in range(30)]
    assert len(long) > served.run.settings.max_length
    assert not set(served.recommend("u03", 10, history=long).items) & set(long)
    with served._turns:
        crowded = served.recommend("u03", 10, history=long)
    assert crowded.origin == "overload" and len(crowded.items) == 10
    assert not set(crowded.items) & set(long)


def test_without_any_ad_answers_are_empty(run_folder: Path) -> None:
    served = service(run_folder)
    served.index.delete(served.run.items.ids.to_list())
    for user in ("u03", "nobody"):
        answer = served.recommend(user, 5)
        assert answer.items == [] and answer.scores == []


def test_ids_of_another_tokenizer_are_refused(prepared: Prepared, run_folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run_folder, copied)
    other = experiment(prepared, tmp_path / "other", model__tokenizer__salt=7)
    save_semantic_ids(semantic_ids(other.config, other), copied / "semantic_ids.parquet")
    with pytest.raises(DataError, match="made by another tokenizer"):
        serve(copied, {})


def test_beams_belong_to_the_request(run_folder: Path) -> None:
    now = [0.0]
    served = service(
        run_folder, lambda: now[0], beams=[10, 10, 20], busy_rate=2.0, idle_rate=0.5, rate_seconds=1.0, cache_seconds=0
    )
    widths = []
    for step in (0.0, 0.1, 0.2, 5.0):
        now[0] = step
        widths.append(served.recommend("u03", 5).beams)
    assert widths == [(14, 14, 28), (10, 10, 20), (10, 10, 20), (14, 14, 28)]
    assert served.index.snapshot.retriever.widths == (10, 10, 20)


def test_too_many_requests_get_popular_ads_at_once(run_folder: Path) -> None:
    served = service(run_folder, concurrency=1, wait_seconds=0.0)
    served._turns.acquire()
    assert served.recommend("u03", 4).origin == "overload"
    assert served.recommend("u03", 4).items == served.recommend("nobody", 4).items
    served._turns.release()
    answer = served.recommend("u03", 4)
    assert answer.origin == "search"


def test_an_order_by_value_needs_the_value_step(prepared: Prepared, run_folder: Path, tmp_path: Path) -> None:
    assert service(run_folder, gamma=3.0).recommend("u03", 10).items != service(run_folder).recommend("u03", 10).items
    fitted(prepared, tmp_path / "run", "lazy-ar", trainer__max_epochs=1)
    with pytest.raises(ConfigurationError, match="eCPM step, which this run has not"):
        service(tmp_path / "run", gamma=1.0)


def test_only_a_finished_run_is_served(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run of GR4AD"):
        serve(tmp_path, {})
    with pytest.raises(ConfigurationError, match="idle rate must be below"):
        serve(run_folder, {"serve.busy_rate": 5, "serve.idle_rate": 9})
    with pytest.raises(ConfigurationError, match=r"serve\.cache_seconds"):
        serve(run_folder, {"serve.cache_second": 5})


@pytest.fixture
def ask(run_folder: Path) -> Iterator[Ask]:
    with answering(serve(run_folder, {"serve.beams": [10, 20, 30]})) as asking:
        yield asking


def test_over_http(ask: Ask, prepared: Prepared) -> None:
    status, answer = ask("GET", "/recommend?user=u03&k=4")
    assert status == 200 and len(answer["items"]) == 4
    assert answer["beams"] == [10, 20, 30] and answer["synthetic_values"] is True
    asked = {"user": "u03", "history": answer["items"], "k": 2, "placement": "feed"}
    assert ask("POST", "/recommend", asked)[1]["origin"] == "search"
    best = answer["items"][0]
    assert ask("POST", "/items/delete", {"items": [best]}, JSON) == (200, {"items": 39, "version": 1})
    assert best not in ask("GET", "/recommend?user=u03&k=4")[1]["items"]
    table = prepared.split.items()
    assert table is not None
    row = table.filter(pl.col("item_id") == best).select("item_id", "title", "text").collect().row(0, named=True)
    new = {"items": [row, {**row, "item_id": "new"}]}
    assert ask("POST", "/items", new, JSON) == (200, {"items": 41, "version": 2})
    health = ask("GET", "/health")[1]
    assert health["items"] == 41 and health["synthetic_values"] and health["values"] == "simulated"
    page = ask("GET", "/metrics")[1]
    for name in ("recascade_index_items 41.0", "recascade_cache_misses_total", "recascade_beam_scale 1.0"):
        assert name in page


def test_every_ad_of_a_great_change_may_have_fields_of_its_own(ask: Ask) -> None:
    plain = [{"item_id": f"new-{number}", "text": "brand 1"} for number in range(120)]
    assert ask("POST", "/items", {"items": [*plain, {"item_id": "odd", "title": "Item i01"}]}, JSON)[0] == 200


@pytest.mark.parametrize("path", ["/items", "/items/delete"])
@pytest.mark.parametrize(
    "headers", [{}, {**JSON, "host": "evil.example"}, {**JSON, "x-forwarded-for": "10.0.0.1"}], ids=str
)
def test_only_a_program_on_this_machine_changes_ads(ask: Ask, path: str, headers: dict[str, str]) -> None:
    change = {"items": ["i01"] if path == "/items/delete" else [{"item_id": "new", "text": "brand 1"}]}
    assert ask("POST", path, change, headers)[0] == 403
    assert ask("GET", "/health")[1]["index_version"] == 0


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        ("/recommend", {"k": 3}, "'user' is missing"),
        ("/recommend", {"user": "u", "history": "i01"}, "'history' must be a list"),
        ("/recommend", {"user": "u", "placment": "feed"}, "Did you mean 'placement'"),
        ("/items", {"items": []}, "'items' must be a list of 1 to 1000"),
        ("/items", {"items": ["i01"]}, "must be an object"),
        ("/items", {"items": [{"title": "no id"}]}, "'item_id' is missing"),
        ("/items", {"items": [{"item_id": "x"}]}, "Nothing was changed: 1 of 1 items have no content"),
        ("/items", {"items": [{"item_id": "x", "vector": ["a"]}]}, "Nothing was changed"),
        ("/items", {"items": [{"item_id": "x", "vector": [1.0, 2.0]}]}, "Nothing was changed"),
        ("/items", {"items": [{"item_id": "x", "vector": [[1.0]]}]}, "not a finite number"),
        ("/items", {"items": [{"item_id": "x", "vector": [1.0]}, {"item_id": "y", "title": "t"}]}, "send them apart"),
        ("/items/delete", {"items": ["no such ad"]}, "Nothing was changed: Item 'no such ad'"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(ask: Ask, path: str, content: dict[str, Any], sentence: str) -> None:
    status, answer = ask("POST", path, content, JSON)
    assert status == 400 and sentence in answer["error"]
    assert ask("GET", "/health")[1]["index_version"] == 0
