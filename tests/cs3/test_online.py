"""A stream is learnt exactly once, whatever happens to the process: P17 to P20 of the specification."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from recascade.data.dataset import Dataset
from recascade.errors import ConfigurationError, DataError
from recascade_cs3.checkpoints import latest_checkpoint
from recascade_cs3.config import CascadeSharingConfig, CrossTowerConfig, CS3Config, TablesConfig
from recascade_cs3.online import OnlineConfig, compose_online, run_online
from recascade_cs3.planted import planted_stream

SMALL = {
    "stream.label": "click",
    "stream.batch": 64,
    "model.backbone.embedding_dimension": 8,
    "model.backbone.hidden": [16],
    "model.backbone.dimension": 8,
    "model.ranker.embedding_dimension": 8,
    "model.ranker.hidden": 16,
    "model.ranker.width": 8,
    "pace.checkpoint_events": 512,
    "pace.probe_events": 1_000,
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return planted_stream(tmp_path_factory.mktemp("planted") / "log", events=6_000, seed=3)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def compose(dataset: Dataset, **overrides: Any) -> OnlineConfig:
    return compose_online(
        str(dataset.path), 0, SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    )


def state_of(directory: Path) -> tuple[dict[str, np.ndarray], pl.DataFrame]:
    checkpoint = latest_checkpoint(directory)
    assert checkpoint is not None
    predictions = pl.concat([pl.read_parquet(path) for path in sorted((directory / "predictions").glob("*.parquet"))])
    return load_file(checkpoint / "state.safetensors"), predictions


def assert_same(one: Path, other: Path) -> None:
    (tensors, predictions), (others, other_predictions) = state_of(one), state_of(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert np.array_equal(tensor, others[name]), name
    assert predictions.equals(other_predictions)


@pytest.fixture(scope="module")
def uninterrupted(planted: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_online(compose(planted, stream__label_delay=30), planted, directory)
    return directory


def test_every_event_is_predicted_once_in_order(uninterrupted: Path, planted: Dataset) -> None:
    _, predictions = state_of(uninterrupted)
    assert len(predictions) == 6_000
    assert predictions["timestamp"].is_sorted()
    assert predictions["probability"].is_between(0, 1).all()
    assert predictions["ranker_probability"].null_count() == 0


def test_the_streams_state_is_asked_for_at_checkpoints_alone(
    planted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recascade.data.stream import EventStream

    asked = []
    state = EventStream.state

    def note(stream: EventStream) -> dict[str, Any]:
        asked.append(stream)
        return state(stream)

    monkeypatch.setattr(EventStream, "state", note)
    run_online(compose(planted, pace__checkpoint_events=2_500, pace__probe_events=0), planted, tmp_path / "run")
    # 6,000 events in 94 micro-batches: two checkpoints on the way and the last one.
    assert len(asked) == 3


CHILD = """
import sys
from pathlib import Path
from recascade.data.dataset import Dataset
from recascade_cs3.online import compose_online, run_online
import json, time
data, directory, overrides = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
def slowly(done, there):
    print(done, flush=True)
    time.sleep(0.01)  # the kill shall find it at work
run_online(compose_online(data, 0, overrides), Dataset.open(data), directory, slowly)
"""


@pytest.mark.parametrize("rows", [300, 1_500, 3_333, 5_100])
def test_a_killed_run_goes_on_bit_for_bit(rows: int, planted: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    import json

    directory = tmp_path / "run"
    overrides = json.dumps(SMALL | {"stream.label_delay": 30})
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(planted.path), str(directory), overrides],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= rows:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (directory / "result.json").exists()
    result = run_online(compose(planted, stream__label_delay=30), planted, directory)
    assert_same(directory, uninterrupted)
    whole = run_online(compose(planted, stream__label_delay=30), planted, uninterrupted)
    assert result["prequential"] == whole["prequential"]
    assert result["retrieval"] == whole["retrieval"]


def test_repeated_events_are_ignored(planted: Dataset, tmp_path: Path) -> None:
    from recascade.data.growing_vocabulary import GrowingVocabulary
    from recascade.data.stream import EventStream
    from recascade_cs3.learner import OnlineLearner

    config = compose(planted)
    table = pl.DataFrame(
        {
            "event_id": np.arange(640),
            "user_id": [f"u{number % 17}" for number in range(640)],
            "item_id": [f"i{number % 11}" for number in range(640)],
            "timestamp": 1_000 + np.arange(640) // 64,
            "label": (np.arange(640) % 3 == 0).astype(np.float32),
        }
    )

    def learn(tables: list[pl.DataFrame]) -> tuple[OnlineLearner, int]:
        stream = EventStream(tables, config.stream, GrowingVocabulary(), GrowingVocabulary())
        learner = OnlineLearner(config.model, seed=0)
        for batch in stream.batches():
            learner.tick(batch)
        return learner, stream.counts["repeated"]

    once, _ = learn([table])
    # A producer that sends the last micro-batch again after each one.
    twice, repeated = learn([part for start in range(0, 640, 64) for part in [table[start : start + 64]] * 2])
    assert repeated == 640
    for name, tensor in once.tables.tensors().items():
        assert np.array_equal(tensor.numpy(), twice.tables.tensors()[name].numpy()), name
    assert once.scored == twice.scored == 640


def test_a_late_event_stops_the_run_and_keeps_its_position(tmp_path: Path) -> None:
    """The stream's sentence reaches the user, and mending the log lets the same run go on."""
    from recascade.data.growing_vocabulary import GrowingVocabulary
    from recascade.data.stream import EventStream
    from recascade.data.stream_config import StreamConfig

    table = pl.DataFrame(
        {
            "event_id": np.arange(128),
            "user_id": ["u"] * 128,
            "item_id": ["i"] * 128,
            "timestamp": [*range(1_000, 1_127), 5],
            "label": [1.0] * 128,
        }
    )
    stream = EventStream([table], StreamConfig(batch=64), GrowingVocabulary(), GrowingVocabulary())
    batches = stream.batches()
    assert next(batches).next_offset == 64
    with pytest.raises(DataError, match=r"127.*allowed_lateness"):
        next(batches)


def test_a_finished_run_is_not_learnt_again(uninterrupted: Path, planted: Dataset) -> None:
    before = (uninterrupted / "result.json").stat().st_mtime_ns
    result = run_online(compose(planted, stream__label_delay=30), planted, uninterrupted)
    assert result["prequential"]["events"] == 3_000
    assert (uninterrupted / "result.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused(uninterrupted: Path, planted: Dataset) -> None:
    with pytest.raises(DataError, match=r"model\.ranker\.width=8, not 12"):
        run_online(compose(planted, stream__label_delay=30, model__ranker__width=12), planted, uninterrupted)


def test_another_width_of_the_ranker_is_refused_by_the_checkpoint(uninterrupted: Path, planted: Dataset) -> None:
    from recascade_cs3.catalogue import Catalogue
    from recascade_cs3.checkpoints import restore_checkpoint
    from recascade_cs3.learner import OnlineLearner

    catalogue = Catalogue.load(uninterrupted / "catalogue")
    config = compose(planted, model__ranker__width=12).model
    learner = OnlineLearner(
        config, seed=0, user_features=catalogue.user_features, item_features=catalogue.item_features
    )
    checkpoint = latest_checkpoint(uninterrupted)
    assert checkpoint is not None
    with pytest.raises(DataError, match=r"model\.ranker\.width is 12"):
        restore_checkpoint(checkpoint, learner)


def test_several_passes_with_kept_tables_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"reset_each_pass"):
        CS3Config(passes=2).check()
    CS3Config(passes=2, tables=TablesConfig(reset_each_pass=True)).check()
    CS3Config(passes=2, cts=CrossTowerConfig(enabled=False), cms=CascadeSharingConfig(enabled=False)).check()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"model.batch": 64}, r"model\.batch is for 'recascade run'; .* stream\.batch"),
        ({"model.negatives": 2}, r"reads stream\.negatives"),
        ({"model.negative_popularity": 1.0}, r"reads stream\.negative_popularity"),
        ({"model.passes": 3, "model.tables.reset_each_pass": True}, r"model\.passes is 3; .* once"),
        ({"model.distillation": 0.5, "model.loss": "sampled_softmax"}, r"model\.distillation is 0\.5 and model\.loss"),
        ({"pace.checkpoint_events": 0}, r"pace\.checkpoint_events is 0; it must be at least 1"),
        ({"pace.probe_events": -1}, r"pace\.probe_events is -1; it must be at least 0"),
    ],
)
def test_settings_that_an_online_run_would_ignore_are_refused(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        compose_online("anything", 0, overrides)


def test_frozen_tables_stay_while_the_model_learns(planted: Dataset, tmp_path: Path) -> None:
    frozen = run_online(compose(planted, model__tables__freeze_after=1_024), planted, tmp_path / "frozen")
    rolling = run_online(compose(planted), planted, tmp_path / "rolling")
    tensors, predictions = state_of(tmp_path / "frozen")
    others, other_predictions = state_of(tmp_path / "rolling")
    assert predictions["probability"][:1_024].equals(other_predictions["probability"][:1_024])
    assert not np.array_equal(tensors["tables.users.0"], others["tables.users.0"])
    assert frozen["prequential"]["auc"] != rolling["prequential"]["auc"]


def test_a_loss_that_is_no_number_names_the_event() -> None:
    from online_streams import config, events, learner

    from recascade.errors import TrainingError

    online = learner(config())
    batches = events(64)
    online.tick(batches[0])
    online.module.bias.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="event 32 of the stream"):
        online.tick(batches[1])


def test_an_agreement_over_a_single_candidate_is_left_out() -> None:
    from online_streams import config, events, learner

    from recascade_cs3.probe import probe

    online = learner(config("cms"))
    first, second = events(64, items=1)
    online.tick(first)
    found = probe(online, second)
    assert found["candidates"] == 1 and "ndcg@10" in found
    assert "kendall_tau" not in found


def test_retrieval_is_probed_before_a_batch_whose_users_and_items_are_new() -> None:
    from online_streams import config, events, learner

    from recascade_cs3.probe import probe

    online = learner(config("cts", "cms"))
    few, many = events(64, users=5, items=5), events(64, users=4_000, items=3_000)
    for batch in few:
        online.tick(batch)
    online.make_room(many[0])
    found = probe(online, many[0])
    assert found["candidates"] <= 5
    assert found["recall@100"] < 0.2  # what is liked next is mostly nothing that anybody liked before
    assert set(found) >= {"recall@10", "recall@50", "ndcg@10", "kendall_tau"}
    online.tick(many[0])
