"""Serving CS3: the dot product that the index answers by, dirty items, whole swaps, a store that fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from served_learners import ITEMS, USERS, Trained, events, names, settings

from recascade.errors import ConfigurationError, DataError
from recascade.nn.tower import tower
from recascade.serving.embedding_store import InProcessStore, StoredVectors, StoreUnavailableError
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.item_index import FlatIndex
from recascade.serving.numpy_tower import NumpyTower
from recascade.serving.parameters import RequestError
from recascade_cs3.cas import layer_factory
from recascade_cs3.config import CS3Config, CycleAdaptiveConfig
from recascade_cs3.serve import _prepared, _publish, write_cascade_vectors
from recascade_cs3.serve_config import ServeConfig
from recascade_cs3.service import CS3Service, Recommendation
from recascade_cs3.snapshot import Snapshot, refresh, take_snapshot


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


@pytest.mark.parametrize("vectors", ["stored", "random"])
@pytest.mark.parametrize("backbone", ["dssm", "transformer"])
def test_users_and_items_that_the_stream_names_ahead_of_the_learner_are_served(backbone: str, vectors: str) -> None:
    config = settings(name=backbone)
    config.tables.vectors = vectors
    trained = Trained(config, ticks=3)
    earlier = trained.snapshot()
    trained.users, trained.items = names("u", USERS + 5), names("i", ITEMS + 5)
    assert len(trained.learner.dirty_users) == USERS and len(trained.learner.dirty_items) == ITEMS
    whole = trained.snapshot()
    for snapshot in (whole, refresh(earlier, trained.learner, trained.users, trained.items)):
        assert len(snapshot.index) == len(snapshot.items) == ITEMS + 5
        (ahead, unknown), _ = CS3Service(snapshot, trained.store()).recommend([f"u{USERS + 2}", "nobody"], ITEMS + 5)
        assert (ahead.items, ahead.scores) == (unknown.items, unknown.scores)
        assert len(set(ahead.items)) == ITEMS + 5 and np.isfinite(ahead.scores).all()


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


@pytest.mark.parametrize("cms", [False, True])
def test_no_answer_mixes_two_snapshots_under_load(cms: bool) -> None:
    trained = Trained(settings(cms=cms))
    snapshots: list[tuple[Snapshot, FallbackStore | None]] = []
    for _ in range(4):
        snapshots.append((trained.snapshot(), trained.store()))
        trained.learn(2)
        refreshed = refresh(snapshots[-1][0], trained.learner, trained.users, trained.items)
        snapshots.append((refreshed, trained.store()))
    asked = [f"u{row}" for row in range(0, USERS, 3)]
    expected: dict[tuple[str, ...], list[Recommendation]] = {}
    for snapshot, store in snapshots:
        answers, versions = CS3Service(snapshot, store).recommend(asked, 7)
        expected[tuple(versions.values())] = answers
    assert len(expected) == len(snapshots)
    service, ended = CS3Service(*snapshots[0]), threading.Event()
    seen: set[tuple[str, ...]] = set()

    def hammer() -> None:
        while not ended.is_set():
            answers, versions = service.recommend(asked, 7)
            assert answers == expected[tuple(versions.values())]
            seen.add(tuple(versions.values()))

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(hammer) for _ in range(4)]
        for number in range(150):
            service.publish(*snapshots[number % len(snapshots)])
            time.sleep(0.002)  # lets the threads ask between two swaps
        ended.set()
        for thread in threads:
            thread.result()
    assert len(seen) > 3


@pytest.mark.parametrize("ahead", [False, True])
def test_answers_do_not_change_while_a_newer_checkpoint_is_prepared(
    ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, config = Trained(settings()), ServeConfig(index="flat", encode_users=ahead)
    learnt = trained.learner, trained.users, trained.items
    service = CS3Service(*_prepared(config, None, *learnt))
    before = service.recommend(["u3"], 5)
    meanwhile = []

    def take(*arguments: Any) -> Snapshot:
        meanwhile.append(service.recommend(["u3"], 5))
        return take_snapshot(*arguments)

    monkeypatch.setattr("recascade_cs3.serve.take_snapshot", take)
    trained.learn(2)
    _publish(config, None, service, *learnt)
    assert meanwhile == [before]
    ((after,), versions), ((expected,), expected_versions) = (
        each.recommend(["u3"], 5) for each in (service, trained.service())
    )
    assert (after.items, versions) == (expected.items, expected_versions) and after.scores != before[0][0].scores
    assert after.scores == pytest.approx(expected.scores, abs=1e-6)


@pytest.mark.parametrize("config", [settings(), settings(cas=False, cts=False, cms=False), settings(name="dat")])
def test_users_encoded_ahead_get_the_vectors_that_requests_would_compute(config: CS3Config) -> None:
    trained = Trained(config)
    trained.users = names("u", USERS + 5)
    asked = [f"u{row}" for row in range(USERS + 5)] + ["nobody"]
    ahead = CS3Service(*_prepared(ServeConfig(index="flat"), None, trained.learner, trained.users, trained.items))
    assert ahead.store is None and ahead.snapshot.vectors is not None and "store" not in ahead.health()
    found, versions = ahead.recommend(asked, 10)
    expected, expected_versions = trained.service().recommend(asked, 10)
    assert versions == expected_versions
    for answer, other in zip(found, expected, strict=True):
        assert (answer.user, answer.known) == (other.user, other.known)
        assert answer.scores == pytest.approx(other.scores, abs=1e-6)


def test_towers_that_read_histories_run_when_asked() -> None:
    trained = Trained(settings(recent=5), ticks=1)
    snapshot, store = _prepared(ServeConfig(index="flat"), None, trained.learner, trained.users, trained.items)
    assert snapshot.vectors is None and store is not None


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
        service.publish(Trained(settings(cms=False), ticks=1).snapshot(), service.store)
    assert service.snapshot is snapshot


def test_requests_are_checked(trained: Trained) -> None:
    one, many = (route.answer for route in trained.service().routes())
    assert len(one({"user": "u1"})["items"]) == 10
    assert len(one({"user": "u1", "k": "1000"})["items"]) == ITEMS
    assert [each["user"] for each in many({"users": ["u1", "x"], "k": 3})["results"]] == ["u1", "x"]
    for answer, values in ((one, {}), (one, {"user": "u1", "n": "3"}), (one, {"user": "u1", "k": "0"}), (many, {})):
        with pytest.raises(RequestError):
            answer(values)
