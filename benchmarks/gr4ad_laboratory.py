"""What GR4AD's experiments have in common: data, trained cells, measurements."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recascade.bench.config import compose
from recascade.contracts.method import Experiment
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.requests import requests
from recascade.models.generative_retriever import GenerativeRetriever
from recascade_gr4ad.ad_simulator import simulate_ads
from recascade_gr4ad.ad_values import AdValues, ad_values
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.method import METHOD
from recascade_gr4ad.run_folder import read_run
from recascade_gr4ad.serve import service_of
from recascade_gr4ad.serve_config import ServeConfig

Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        dimension: width of the decoder.
        layers: of the decoder.
        sizes: codes per level.
        buckets: of eCPM.
        beams: width of all levels.
        epochs: of supervised training.
        steps: of the second stage.
        lists: generated for it.
        users: test users whose lists are measured, and whose decoding is timed (a tenth of them).
    """

    dimension: int = 64
    layers: int = 6
    sizes: tuple[int, int, int] = (256, 64, 16)
    buckets: int = 16
    beams: int = 64
    epochs: int = 12
    steps: int = 1500
    lists: int = 4000
    users: int = 5000

    @property
    def trunk_layers(self) -> int:
        """Two thirds of the layers, as in the paper."""
        return round(2 * self.layers / 3)

    @classmethod
    def small(cls) -> Scale:
        """For a first look, and for continuous integration."""
        return cls(32, 3, (64, 16, 8), 8, 32, 2, 100, 400, 500)


class Prepared(NamedTuple):
    """A split and the same one encoded."""

    split: Split
    data: EncodedSplit


class Laboratory:
    """One data set and the models that were trained on it.

    Args:
        data: name or folder of a data set.
        output: where cells are kept.
        seeds: of every cell.
        scale: how large everything is.
    """

    def __init__(self, data: str, output: Path, seeds: Iterable[int], scale: Scale) -> None:
        torch.set_num_threads(1)
        output.mkdir(parents=True, exist_ok=True)
        self.dataset = resolve(data)
        self.output = output
        self.seeds = tuple(seeds)
        self.scale = scale

    @cached_property
    def prepared(self) -> Prepared:
        """Leave-one-out of the data set."""
        return _prepared(self.dataset)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Codes per level, fewer where there are few items."""
        items = len(self.prepared.data.items)
        first, middle, last = self.scale.sizes
        return min(first, items // 4), min(middle, items // 4), last

    def with_clones(self) -> Prepared:
        """The data set with simulated ads, a tenth of its items cloned; the catalogue's items count, too."""
        folder = self.output / "ads"
        dataset = Dataset.open(folder) if folder.is_dir() else simulate_ads(self.dataset, folder)
        return _prepared(dataset, catalogue="file")

    def values(self, seed: int) -> AdValues:
        """The simulated worth of everything, by which all arms of a seed are measured."""
        settings = GR4ADConfig().values
        found = ad_values(self.prepared.data, self.prepared.split, replace(settings, source="simulated"), seed)
        assert found is not None
        return found

    def experiment(self, cell: str, seed: int, overrides: Mapping[str, Any]) -> Experiment:
        """What a fit of a cell is given."""
        scale = self.scale
        common: dict[str, Any] = {
            "trainer.max_epochs": scale.epochs,
            "trainer.progress": False,
            "trainer.tensorboard": False,
            "trainer.batch_sequences": 256,
            "trainer.validation_users": 1000,
            "trainer.patience": 0,
            "trainer.validate_every": max(1, scale.epochs // 4),
            "trainer.accelerator": "cpu",
            "model.dimension": scale.dimension,
            "model.hidden": 4 * scale.dimension,
            "model.layers": scale.layers,
            "model.trunk_layers": scale.trunk_layers,
            "model.tokenizer.sizes": list(self.sizes),
            "model.beams": [scale.beams],
            "model.values.source": "simulated",
            "model.values.buckets": scale.buckets,
            "model.preference.steps": scale.steps,
            "model.preference.requests": scale.lists,
        }
        config = compose(METHOD, data=self.dataset.name, seed=seed, overrides={**common, **overrides})
        directory = self.directory(cell, seed)
        directory.mkdir(parents=True, exist_ok=True)
        split, data = self.prepared
        return Experiment(config.model, config.trainer, data, split, seed=seed, directory=directory)

    def directory(self, cell: str, seed: int) -> Path:
        """Where a cell is kept."""
        return self.output / cell.replace(" ", "_") / f"seed-{seed}"

    def train(self, cell: str, seed: int, overrides: Mapping[str, Any]) -> GenerativeRetriever:
        """A trained cell; what was trained before is read again."""
        experiment = self.experiment(cell, seed, overrides)
        if not (experiment.directory / "served.json").is_file():
            METHOD.run(experiment)
        run = read_run(experiment.directory)
        return service_of(run, ServeConfig()).index.snapshot.retriever

    def measure(self, retriever: GenerativeRetriever, cutoff: int = 10, label: str = "10") -> Row:
        """Recall, NDCG, and the share of the held-out items' simulated value that lists of ``cutoff`` hold."""
        data, worth = self.prepared.data, self.values(0)
        rows = np.random.default_rng(0).permutation(len(data.test))[: self.scale.users]
        context = requests(data.events, data.test, rows)
        lists = retriever.retrieve(context, cutoff).items
        targets = torch.from_numpy(data.test.target_items[data.test.target_offsets[rows]].astype(np.int64))
        hits = lists == targets[:, None]
        gains = (hits / torch.log2(torch.arange(cutoff) + 2.0)).sum(1)
        value = worth.expected(context, targets.clamp(min=0)[:, None])[:, 0] * (targets >= 0)
        return {
            f"recall@{label}": float(hits.any(1).float().mean()),
            f"ndcg@{label}": float(gains.mean()),
            f"value@{label}": float((value * hits.any(1)).sum() / value.sum()),
            f"value ndcg@{label}": float((value * gains).sum() / value.sum()),
        }

    def decoding_cost(self, retriever: GenerativeRetriever, length: int = 10) -> Row:
        """CPU milliseconds per request, alone: the median over requests."""
        data = self.prepared.data
        rows = np.random.default_rng(1).permutation(len(data.test))[: max(20, self.scale.users // 20)]
        took = []
        for number in range(len(rows)):
            context = requests(data.events, data.test, rows[number : number + 1])
            begin = time.process_time()
            retriever.retrieve(context, length)
            took.append(time.process_time() - begin)
        return {"decode CPU ms": 1000 * float(np.median(took))}


def _prepared(dataset: Dataset, **settings: Any) -> Prepared:
    split = cached_split(dataset, SplitConfig(**settings))
    return Prepared(split, encode(split))
