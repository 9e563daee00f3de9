"""A small log and fits of RelayGR on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from recascade.bench.config import compose
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade_relaygr.method import METHOD
from recascade_relaygr.shortlist_retriever import ShortlistRetriever

SMALL = {
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.learning_rate": 0.01,
    "trainer.batch_sequences": 16,
    "model.dimension": 16,
    "model.max_length": 64,
    "model.candidates.places": 8,
    "model.candidates.negatives": 8,
    "model.candidates.own": 0.0,
    "model.candidates.shortlist": 0,
}


class Prepared(NamedTuple):
    split: Split
    data: EncodedSplit


def prepare(folder: Path, ties: str = "shuffle") -> Prepared:
    """A generated log of 120 users and 40 items, in which the last item says much about the next."""
    log = markov_log(folder / "log", users=120, items=40, mean_length=20.0, follow=0.9, seed=2)
    split = make_split(log, SplitConfig(ties=ties), folder / "split")
    return Prepared(split, encode(split))


def experiment(prepared: Prepared, directory: Path, **overrides: Any) -> Experiment:
    """What ``fit`` is given; overrides are dotted keys with ``__`` for the dots."""
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    config = compose(METHOD, data="log", variant="default", overrides=SMALL | chosen)
    directory.mkdir(exist_ok=True)
    return Experiment(config.model, config.trainer, prepared.data, prepared.split, seed=1, directory=directory)


def fitted(prepared: Prepared, directory: Path, **overrides: Any) -> ShortlistRetriever:
    """Fit."""
    retriever = METHOD.run(experiment(prepared, directory, **overrides))
    assert isinstance(retriever, ShortlistRetriever)
    return retriever
