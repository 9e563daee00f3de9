"""Serving CS3: the dot product that the index answers by, dirty items, whole swaps, a store that fails."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recascade.data.event_batch import EventBatch
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.errors import ConfigurationError, DataError
from recascade.nn.tower import tower
from recascade.serving.embedding_store import InProcessStore, StoredVectors, StoreUnavailableError
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.item_index import FlatIndex
from recascade.serving.numpy_tower import NumpyTower
from recascade.serving.parameters import RequestError
from recascade_cs3.cas import layer_factory
from recascade_cs3.checkpoints import Position, save_checkpoint
from recascade_cs3.config import BackboneConfig, CS3Config, CycleAdaptiveConfig
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.run_folder import CATALOGUE_FOLDER, ONLINE_FOLDER, write_model
from recascade_cs3.serve import open_newest, serve, write_cascade_vectors
from recascade_cs3.service import CS3Service, Recommendation
from recascade_cs3.snapshot import Snapshot, refresh, take_snapshot

USERS, ITEMS = 40, 60
NO_CMS = {"cms": False}


def settings(*, cas: bool = True, cts: bool = True, cms: bool = True, **backbone: Any) -> CS3Config:
    config = CS3Config(backbone=BackboneConfig(**backbone))
    config.cas.enabled, config.cts.enabled, config.cms.enabled = cas, cts, cms
    config.cas.zero_gate = False
    return config


def events(offset: int, count: int = 64, users: int = USERS, items: int = ITEMS, positive: bool = False) -> EventBatch:
    random = np.random.default_rng(offset)
    times = np.arange(offset, offset + count)
    labels = np.ones(count) if positive else random.random(count) < 0.4
    return EventBatch(
        offset=offset,
        next_offset=offset + count,
        event_ids=times,
        users=random.integers(0, users, count),
        items=random.integers(0, items, count),
        timestamps=times,
        labels=labels.astype(np.float32),
        label_times=times,
    )


def names(kind: str, count: int) -> GrowingVocabulary:
    return GrowingVocabulary([f"{kind}{row}" for row in range(count)], kind=kind)


class Trained:
    """A learner after some events, with its vocabularies and a store of its cascade vectors."""

    def __init__(self, config: CS3Config, seed: int = 0, ticks: int = 5) -> None:
        self.learner = OnlineLearner(config, seed=seed)
        self.users, self.items = names("u", USERS), names("i", ITEMS)
        self.learner.grow(USERS, ITEMS)
        self.offset = 0
        self.learn(ticks)

    def learn(self, ticks: int, **changes: Any) -> None:
        for _ in range(ticks):
            self.learner.tick(events(self.offset, **changes))
            self.offset += 64

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.learner, self.users, self.items, FlatIndex)

    def store(self) -> FallbackStore | None:
        cascade = self.learner.tables.cascade
        if cascade is None:
            return None
        store = FallbackStore(InProcessStore(cascade.users.width))
        write_cascade_vectors(self.learner, self.users, self.items, store)
        return store

    def service(self) -> CS3Service:
        return CS3Service(self.snapshot(), self.store())

    @torch.no_grad()
    def brute_force(self, user: int, k: int) -> tuple[list[str], list[float]]:
        """The training graph's own scores of all items, without bias and scale."""
        module, tables = self.learner.module.eval(), self.learner.tables
        rows, users = torch.arange(ITEMS), torch.full((ITEMS,), user)
        output = module.towers(
            tables.histories.context(users), rows, tables.user_inputs(users), tables.item_inputs(rows)
        )
        best = torch.topk((output.logits - module.bias) / module.log_scale.exp(), k)
        return [f"i{item}" for item in best.indices.tolist()], best.values.tolist()


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained(settings())


@pytest.mark.parametrize(
    "config",
    [
        settings(),
        settings(cas=False, cts=False, cms=False),
        settings(cms=False),
        settings(cts=False),
        settings(name="dat"),
        settings(name="transformer"),
        settings(name="int_tower", interaction_heads=1),
        settings(recent=5),
    ],
    ids=["full", "base", "without cms", "without cts", "dat", "transformer", "int_tower", "recent"],
)
def test_answers_are_the_training_graphs_scores(config: CS3Config) -> None:
    trained = Trained(config)
    found, versions = trained.service().recommend(["u3", "u7"], 10)
    alone, _ = trained.service().recommend(["u3"], 10)
    for answer, user in ((found[0], 3), (found[1], 7), (alone[0], 3)):
        items, scores = trained.brute_force(user, 10)
        assert answer.known and answer.items == items
        assert answer.scores == pytest.approx(scores, abs=2e-5)
    assert versions == {"model": "0.5", "tables": "320"}


def test_a_score_that_is_no_inner_product_is_not_served() -> None:
    with pytest.raises(ConfigurationError, match=r"'int_tower' is not one inner product.*interaction_heads=1"):
        Trained(settings(name="int_tower", interaction_heads=2), ticks=1).snapshot()


@pytest.mark.parametrize("backbone", ["dssm", "transformer"])
def test_an_unknown_user_reads_zeros_and_the_unknown_row(backbone: str) -> None:
    trained = Trained(settings(name=backbone))
    service = trained.service()
    (answer,), _ = service.recommend(["nobody"], 5)
    snapshot = service.snapshot
    zeros = np.zeros((1, snapshot.cascade_width), dtype=np.float32)
    expected = snapshot.index.search(snapshot.user_vectors(np.array([-1]), zeros), 5)
    assert not answer.known and answer.scores == expected.scores[0].tolist()
    assert answer != service.recommend(["u1"], 5)[0][0]


def test_an_unknown_user_whose_vector_the_store_has_gets_it(trained: Trained) -> None:
    service = trained.service()
    before, _ = service.recommend(["newcomer"], 5)
    assert service.store is not None
    service.store.write("user", ["newcomer"], np.full((1, service.store.width), 0.5, dtype=np.float32))
    after, _ = service.recommend(["newcomer"], 5)
    assert before[0].scores != after[0].scores and not after[0].known


@pytest.mark.parametrize("changes", [{}, {"cycles": 3}, {"post_activation": False}, {"stop_gradient": True}])
def test_towers_with_cycles_need_no_pytorch_for_one_request(changes: dict[str, Any]) -> None:
    config = CycleAdaptiveConfig(zero_gate=False, **changes)
    assert NumpyTower(tower((9, 8, 7, 6), layer_factory(config, "user")), 9).rewritten


def test_other_users_do_not_change_an_answer(trained: Trained) -> None:
    service = trained.service()
    alone, _ = service.recommend(["u5"], 8)
    among, _ = service.recommend([f"u{row}" for row in range(20)], 8)
    assert among[5].items == alone[0].items
    assert among[5].scores == pytest.approx(alone[0].scores, abs=1e-6)


@pytest.mark.parametrize("config", [settings(), settings(name="transformer"), settings(cms=False)])
def test_encoding_dirty_items_alone_equals_encoding_all(config: CS3Config) -> None:
    trained = Trained(config)
    snapshot = trained.snapshot()
    assert not trained.learner.dirty_items[:ITEMS].any()
    queries = torch.randn(6, snapshot.model.width)
    before = snapshot.index.search(queries, ITEMS)
    trained.learn(2, items=15)
    refreshed = refresh(snapshot, trained.learner, trained.users, trained.items)
    everything = FlatIndex(snapshot.model.width)
    rows = torch.arange(ITEMS)
    everything.upsert(rows, snapshot.model.item_vectors(rows, trained.learner.tables))
    found, expected = refreshed.index.search(queries, ITEMS), everything.search(queries, ITEMS)
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-6)
    assert not torch.equal(found.scores, before.scores)
    assert refreshed.versions == {"model": snapshot.versions["model"], "tables": "448"}
    after = snapshot.index.search(queries, ITEMS)
    assert torch.equal(after.items, before.items) and torch.equal(after.scores, before.scores)


def test_only_dirty_items_are_encoded(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = trained.snapshot()
    batch = events(trained.offset)
    trained.learn(1)
    encoded: list[int] = []
    encode = snapshot.model.item_vectors

    def note(rows: torch.Tensor, tables: Any) -> torch.Tensor:
        encoded.extend(rows.tolist())
        return encode(rows, tables)

    monkeypatch.setattr(snapshot.model, "item_vectors", note)
    refresh(snapshot, trained.learner, trained.users, trained.items)
    assert encoded == np.unique(batch.items).tolist()


def test_new_users_and_items_are_served_after_a_refresh() -> None:
    trained = Trained(settings(), ticks=3)
    snapshot = trained.snapshot()
    trained.users, trained.items = names("u", USERS + 5), names("i", ITEMS + 5)
    trained.learn(3, users=USERS + 5, items=ITEMS + 3, positive=True)
    assert not trained.learner.dirty_items[ITEMS + 3 :].any()
    refreshed = refresh(snapshot, trained.learner, trained.users, trained.items)
    (answer,), _ = CS3Service(refreshed, trained.store()).recommend([f"u{USERS + 2}"], ITEMS + 5)
    assert answer.known and len(answer.items) == len(set(answer.items)) == ITEMS + 5
    assert np.isfinite(answer.scores).all()


def test_an_index_of_another_model_is_refused(trained: Trained) -> None:
    snapshot = trained.snapshot()
    trained.learn(1)
    newer = trained.snapshot()
    with pytest.raises(DataError, match=r"from model 0\.\d+, .* is of model 0\.\d+; encode the items with this model"):
        Snapshot(**{**vars(snapshot), "index": newer.index, "index_version": newer.index_version})
    with pytest.raises(DataError, match="vectors of 3 numbers"):
        Snapshot(**{**vars(snapshot), "index": FlatIndex(3)})


def test_learning_on_does_not_reach_a_snapshot() -> None:
    trained = Trained(settings(name="transformer"))
    service = trained.service()
    before = service.recommend(["u1", "u2"], 10)
    trained.learn(3)
    trained.learner.start_pass()
    assert service.recommend(["u1", "u2"], 10) == before


def test_taking_snapshots_does_not_disturb_learning() -> None:
    watched, alone = Trained(settings(), ticks=2), Trained(settings(), ticks=2)
    watched.snapshot()
    for each in (watched, alone):
        each.learn(2)
    weights = watched.learner.module.state_dict()
    for name, tensor in alone.learner.module.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert watched.snapshot().model.version == "0.4"


def test_no_answer_mixes_two_snapshots_under_load() -> None:
    trained = Trained(settings(**NO_CMS))
    snapshots = []
    for _ in range(4):
        snapshots.append(trained.snapshot())
        trained.learn(2)
        snapshots.append(refresh(snapshots[-1], trained.learner, trained.users, trained.items))
    asked = [f"u{row}" for row in range(0, USERS, 3)]
    expected: dict[tuple[str, ...], list[Recommendation]] = {}
    for snapshot in snapshots:
        answers, versions = CS3Service(snapshot).recommend(asked, 7)
        expected[tuple(versions.values())] = answers
    assert len(expected) == len(snapshots)
    service, ended = CS3Service(snapshots[0]), threading.Event()
    seen: set[tuple[str, ...]] = set()

    def hammer() -> None:
        while not ended.is_set():
            answers, versions = service.recommend(asked, 7)
            assert answers == expected[tuple(versions.values())]
            seen.add(tuple(versions.values()))

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(hammer) for _ in range(4)]
        for number in range(150):
            service.publish(snapshots[number % len(snapshots)])
            time.sleep(0.002)
        ended.set()
        for thread in threads:
            thread.result()
    assert len(seen) > 3


class Failing(InProcessStore):
    """A remote store that can be switched off."""

    remote = True
    down = False

    def read(self, side: Any, ids: Any) -> StoredVectors:
        if self.down:
            raise StoreUnavailableError("The store is down.")
        return super().read(side, ids)


def test_a_store_that_is_down_serves_zeros_and_is_counted(trained: Trained) -> None:
    inner = Failing(trained.learner.config.ranker.width)
    store = FallbackStore(inner, retry_seconds=0.0)
    write_cascade_vectors(trained.learner, trained.users, trained.items, store)
    service = CS3Service(trained.snapshot(), store)
    (well,), _ = service.recommend(["u1"], 5)
    assert well.items == trained.brute_force(1, 5)[0]
    inner.down = True
    (degraded,), _ = service.recommend(["u1"], 5)
    snapshot = service.snapshot
    zeros = snapshot.user_vectors(snapshot.rows(["u1"]), np.zeros((1, snapshot.cascade_width), np.float32))
    assert degraded.known and degraded.scores == snapshot.index.search(zeros, 5).scores[0].tolist()
    assert degraded.scores != well.scores and store.fallbacks == 1
    assert service.health()["store"] == "does not answer"
    inner.down = False
    assert service.recommend(["u1"], 5)[0] == [well] and store.fallbacks == 1
    service.close()


def test_a_store_of_another_width_is_refused(trained: Trained) -> None:
    snapshot = trained.snapshot()
    with pytest.raises(ConfigurationError, match="vectors of 5 numbers and the user tower reads 16"):
        CS3Service(snapshot, FallbackStore(InProcessStore(5)))
    with pytest.raises(ConfigurationError, match="give the service a store"):
        CS3Service(snapshot)
    service = CS3Service(snapshot, trained.store())
    with pytest.raises(ConfigurationError, match="the user tower reads 0"):
        service.publish(Trained(settings(**NO_CMS), ticks=1).snapshot())
    assert service.snapshot is snapshot


def test_requests_are_checked(trained: Trained) -> None:
    one, many = (route.answer for route in trained.service().routes())
    assert len(one({"user": "u1"})["items"]) == 10
    assert len(one({"user": "u1", "k": "1000"})["items"]) == ITEMS
    assert [each["user"] for each in many({"users": ["u1", "x"], "k": 3})["results"]] == ["u1", "x"]
    for answer, values in ((one, {}), (one, {"user": "u1", "n": "3"}), (one, {"user": "u1", "k": "0"}), (many, {})):
        with pytest.raises(RequestError):
            answer(values)


def write_run(trained: Trained, folder: Path) -> None:
    """What ``recascade cs3 learn`` leaves behind of this learner."""
    from recascade_cs3.catalogue import Catalogue

    if not (folder / CATALOGUE_FOLDER).exists():
        Catalogue([], [], None, None).save(folder / CATALOGUE_FOLDER)
        write_model(folder, trained.learner.config, trained.learner.seed)
    save_checkpoint(folder, trained.learner, Position(trained.offset, {}), trained.users, trained.items)


def test_a_run_folder_is_opened_as_it_was_left(tmp_path: Path) -> None:
    trained = Trained(settings())
    write_run(trained, tmp_path)
    _, learner, users, items = open_newest(tmp_path)
    answer, versions = CS3Service(take_snapshot(learner, users, items, FlatIndex), trained.store()).recommend(["u3"], 9)
    assert (answer, versions) == trained.service().recommend(["u3"], 9)


def test_folders_and_settings_that_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run of CS3"):
        serve(tmp_path, {})
    trained = Trained(settings(), ticks=1)
    write_model(tmp_path, trained.learner.config, 0)
    with pytest.raises(DataError, match="has no checkpoint yet"):
        serve(tmp_path, {})
    with pytest.raises(ConfigurationError, match=r"Did you mean 'serve\.index'"):
        serve(tmp_path, {"serve.indx": "flat"})
    with pytest.raises(ConfigurationError, match=r"serve\.index is 'flt'\. Did you mean 'flat'"):
        serve(tmp_path, {"serve.index": "flt"})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Trained, Path, int]]:
    """A benchmark run's folder behind ``recascade serve``, which looks for new checkpoints ten times a second."""
    pytest.importorskip("uvicorn")
    trained = Trained(settings())
    write_run(trained, tmp_path / ONLINE_FOLDER)
    program = (
        "from pathlib import Path; from recascade.serving.http import serve as run;"
        "from recascade_cs3.serve import serve; import signal;"
        "signal.signal(signal.SIGTERM, signal.default_int_handler);"
        f"application = serve(Path({str(tmp_path)!r}), {{'serve.refresh_seconds': 0.1, 'serve.index': 'flat'}});"
        "run(application, '127.0.0.1', 0, announce=lambda url: print(url, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield trained, tmp_path / ONLINE_FOLDER, int(process.stdout.readline().rsplit(":", 1)[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_over_http_with_newer_checkpoints_and_metrics(served: tuple[Trained, Path, int]) -> None:
    trained, folder, port = served

    def ask(method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, None if body is None else json.dumps(body))
        content = connection.getresponse().read().decode()
        connection.close()
        return content if path == "/metrics" else json.loads(content)

    (expected,), versions = trained.service().recommend(["u3"], 4)
    answer = ask("GET", "/recommend?user=u3&k=4")
    assert answer == {**expected.content(), "scores": pytest.approx(expected.scores, abs=1e-6), "versions": versions}
    assert [each["user"] for each in ask("POST", "/recommend", {"users": ["u1", "u2"]})["results"]] == ["u1", "u2"]
    assert ask("GET", "/recommend?usr=u3")["error"] == "There is no parameter 'usr'. Did you mean 'user'?"
    trained.learn(2)
    write_run(trained, folder)
    (newer,), versions = trained.service().recommend(["u3"], 4)
    deadline = time.monotonic() + 20
    while ask("GET", "/health")["versions"] != versions and time.monotonic() < deadline:
        time.sleep(0.05)
    answer = ask("GET", "/recommend?user=u3&k=4")
    assert answer["versions"] == versions and answer["scores"] == pytest.approx(newer.scores, abs=1e-6)
    page = ask("GET", "/metrics")
    assert f'recascade_versions_info{{model="{versions["model"]}",tables="{versions["tables"]}"}} 1.0' in page
    assert "recascade_store_fallbacks_total 0.0" in page and f"recascade_index_items {ITEMS}.0" in page
    assert 'recascade_request_seconds_count{route="GET /recommend"} 3.0' in page
