"""Training: what it may see, that it learns, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from counting_backend import CountingBackend
from relaygr_runs import Prepared, experiment, fitted, prepare

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.data.vocabulary import Vocabulary
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.requests import requests
from recascade.files import read_json
from recascade.models.popularity import Popularity
from recascade_relaygr.config import CandidatesConfig, RelayGRConfig
from recascade_relaygr.method import METHOD
from recascade_relaygr.module import RankingModule
from recascade_relaygr.negatives import draw_groups
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.ranking_data import RankingBatch, RankingData
from recascade_relaygr.run_folder import read_run
from recascade_relaygr.shortlist_retriever import ShortlistRetriever


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("relaygr"))


@pytest.fixture(scope="module")
def baskets(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("relaygr"), ties="group")


@pytest.fixture(scope="module")
def run_folder(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relaygr") / "run"
    fitted(prepared, folder, trainer__max_epochs=12)
    return folder


def batch_of(prepared: Prepared, directory: Path) -> RankingBatch:
    given = experiment(prepared, directory)
    data = RankingData(prepared.data, given.trainer, max_length=64)
    return data.training_batch(np.arange(20))


def test_the_compiler_sees_the_steps_and_changes_nothing(prepared: Prepared, tmp_path: Path) -> None:
    backend, batch, losses = CountingBackend(), batch_of(prepared, tmp_path / "run"), []
    plain = experiment(prepared, tmp_path / "run").trainer
    for trainer in (plain, replace(plain, compile=True, compile_backend=backend)):  # type: ignore[arg-type]
        torch.manual_seed(0)
        ranker = HSTURanker(40, max_length=64, dropout=0.0)
        losses.append(RankingModule(ranker, RelayGRConfig(), prepared.data, trainer).training_step(batch, 0))
    torch.testing.assert_close(*losses)
    assert backend.graphs > 0


@pytest.mark.parametrize("kind", ["prepared", "baskets"])
def test_a_group_sees_nothing_of_its_target_and_knows_its_time(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prepared: Prepared = request.getfixturevalue(kind)
    batch = batch_of(prepared, tmp_path / "run")
    torch.manual_seed(0)
    sampler = RankingModule(
        HSTURanker(40, max_length=64), RelayGRConfig(), prepared.data, experiment(prepared, tmp_path / "run").trainer
    ).negatives
    settings = CandidatesConfig(places=30, negatives=6, own=0.5)
    groups, correction = draw_groups(batch, settings, sampler, len(prepared.data.items))
    events = prepared.data.events
    offsets = batch.context.offsets
    uncounted = correction.isinf()
    for row in range(batch.context.batch_size):
        user = int(batch.context.users[row])
        items, times = (
            np.asarray(values[events.offsets[user] : events.offsets[user + 1]])
            for values in (events.items, events.timestamps)
        )
        length = int(offsets[row + 1] - offsets[row])
        shift = next(
            start
            for start in range(len(items) - length + 1)
            if np.array_equal(items[start : start + length], batch.context.items[offsets[row] : offsets[row + 1]])
        )
        for place in range(30):
            seen = int(groups.seen[row, place])
            following = shift + seen
            group = items[following:][np.asarray(times[following:]) == times[following]]
            target = int(groups.items[row, place, 0])
            assert target in group if kind == "baskets" else target == items[following]
            assert int(groups.times[row, place]) == times[following]
            if kind == "baskets":
                assert times[following - 1] < times[following]
            own = groups.items[row, place, 1:4].tolist()
            assert set(own) <= set(items[shift : shift + seen].tolist())
            expected = [False, *(item in group[: len(group)] for item in groups.items[row, place, 1:].tolist())]
            if kind == "baskets":
                assert uncounted[row, place].tolist() == expected
            else:
                assert uncounted[row, place].tolist() == [
                    False,
                    *(item == target for item in groups.items[row, place, 1:].tolist()),
                ]


def test_the_correction_is_the_logarithm_of_the_chance_to_be_drawn(prepared: Prepared, tmp_path: Path) -> None:
    given = experiment(prepared, tmp_path / "run")
    batch = batch_of(prepared, tmp_path / "run")
    sampler = RankingModule(HSTURanker(40, max_length=64), RelayGRConfig(), prepared.data, given.trainer).negatives
    settings = CandidatesConfig(places=4, negatives=8, own=0.25)
    groups, correction = draw_groups(batch, settings, sampler, len(prepared.data.items))
    offsets = batch.context.offsets
    for row, place, candidate in [(0, 0, 0), (3, 2, 1), (7, 1, 5), (19, 3, 8)]:
        if correction[row, place, candidate].isinf():
            continue
        item, seen = int(groups.items[row, place, candidate]), int(groups.seen[row, place])
        own = batch.context.items[offsets[row] : offsets[row] + seen]
        chance = 0.25 * float((own == item).float().mean()) + 0.75 * float(sampler.log_q[item].exp())
        assert float(correction[row, place, candidate].exp()) == pytest.approx(chance, rel=1e-4)


def test_it_learns_what_popularity_cannot_know(prepared: Prepared, run_folder: Path) -> None:
    model = read_run(run_folder).model
    ranked = ShortlistRetriever(model, prepared.data.item_counts, CandidatesConfig(shortlist=0))
    assert isinstance(ranked, Retriever)
    config = EvaluationConfig()
    found = evaluate(ranked, prepared.data, "test", config).summary["ndcg@10"]
    popular = evaluate(Popularity.fit(prepared.data), prepared.data, "test", config).summary["ndcg@10"]
    assert found > popular + 0.1


def test_the_shortlist_bounds_what_is_recommended(prepared: Prepared, run_folder: Path) -> None:
    model = read_run(run_folder).model
    short = ShortlistRetriever(model, prepared.data.item_counts, CandidatesConfig(shortlist=12))
    context = requests(prepared.data.events, prepared.data.test, np.arange(9))
    first = short.first_stage.retrieve(context, 12).items
    best = short.retrieve(context, 10)
    assert all(set(mine.tolist()) <= set(given.tolist()) for mine, given in zip(best.items, first, strict=True))
    assert bool((best.scores.diff(dim=1) <= 0).all())
    only = torch.tensor([3, 5, 8])
    assert set(short.retrieve(context, 10, candidates=only).items.unique().tolist()) <= {-1, 3, 5, 8}
    unseen = short.retrieve(context, 5, exclude_seen=True)
    for row in range(9):
        history = context.items[context.offsets[row] : context.offsets[row + 1]].tolist()
        assert not set(history) & set(unseen.items[row].tolist())
    surplus = short.retrieve(context, 50).items
    assert surplus.shape == (9, 50) and bool((surplus[:, 40:] == -1).all()) and bool((surplus[:, :40] >= 0).all())


def test_what_a_run_leaves_serves_the_same_scores(prepared: Prepared, tmp_path: Path) -> None:
    retriever = fitted(prepared, tmp_path / "run")
    run = read_run(tmp_path / "run")
    facts = read_json(tmp_path / "run" / "fit.json")
    assert facts["prefix_error"] < 1e-5 and facts["parameters"] > 0
    assert list(run.items) == prepared.data.items.ids.to_list()
    user = prepared.data.users.ids[3]
    events = prepared.data.events
    expected = np.asarray(events.items[events.offsets[3] : events.offsets[4]])
    assert run.histories[user].items.tolist() == expected.tolist()
    assert isinstance(prepared.data.items, Vocabulary)
    given: Context = run.histories[user]
    items = torch.arange(20)[None]
    assert torch.equal(run.model.score(given, items), retriever.ranker.eval().score(given, items))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run of RelayGR"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dimension", 0),
        ("heads", 3),
        ("dropout", 1.0),
        ("windows", "all"),
        ("normaliser", 0.0),
        ("candidates.places", 0),
        ("candidates.own", 1.5),
        ("candidates.decay", 0.0),
    ],
)
def test_settings_that_cannot_work_are_refused(prepared: Prepared, tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key.partition(".")[2] or key):
        experiment(prepared, tmp_path, **{f"model__{key.replace('.', '__')}": value})


def test_the_registry_knows_it_as_a_ranking_method() -> None:
    assert METHOD.stage == "ranking" and "truncated" in METHOD.variants
