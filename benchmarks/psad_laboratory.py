"""Re-rankers on the same lists, cell by cell: what the tables of PSAD are made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recascade.bench.config import compose
from recascade.bench.list_source import prepared_lists
from recascade.bench.registry import find_method
from recascade.contracts.method import FIT_FILE, RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.lists import JudgedLists, read_lists
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_judged import lists_from_judged
from recascade.data.reranking_lists import RerankingLists
from recascade.data.sources import resolve
from recascade.evaluation.evaluate_lists import evaluate_lists
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.evaluation.rank_agreement import kendall_tau_per_request
from recascade.settings import compose_sections
from recascade.training.config import TrainerConfig
from recascade_psad.planted import PlantedWorld, planted_world
from recascade_psad.planted_lists import planted_lists
from recascade_psad.reranker import StudentReranker, TeacherReranker

PLANTED = "planted"
CUTOFFS = (5, 10)
_NO_PROFILE = {"profile.gate": False, "profile.dynamics": False, "profile.position": False}
_TEACHER_ALONE = {"train": "teacher", "serve": "teacher"}

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "initial order": ("initial-order", {}),
    "MMR": ("mmr", {}),
    "DPP": ("dpp", {}),
    "DLCM": ("dlcm", {}),
    "PRM": ("prm", {}),
    "SetRank": ("set-rank", {}),
    "MIR": ("mir", {}),
    "Seq2Slate": ("seq2slate", {}),
    "NAR4Rec": ("nar4rec", {}),
    "PSAD": ("psad", {}),
    "joint, no distillation": ("psad", {"distillation.weight": 0.0}),
    "student alone": ("psad", {"train": "student"}),
    "teacher alone": ("psad", _TEACHER_ALONE),
    "offline distillation": ("psad", {"train": "offline"}),
    "pooled context": ("psad", {"student.context": "pool"}),
    "transformer context": ("psad", {"student.context": "transformer"}),
    "no context": ("psad", {"student.context": "none"}),
    "without profile network": ("psad", _NO_PROFILE),
    "teacher alone, without profile network": ("psad", {**_TEACHER_ALONE, **_NO_PROFILE}),
    "without gate": ("psad", {"profile.gate": False}),
    "without dynamics": ("psad", {"profile.dynamics": False}),
    "without adaptive places": ("psad", {"profile.position": False}),
    "separate profile networks": ("psad", {"shared": False}),
    "distils first choice": ("psad", {"distillation.target": "first"}),
    "distils ranks": ("psad", {"distillation.target": "rank"}),
    "distils list (ListMLE)": ("psad", {"distillation.target": "listmle"}),
    "distils pairs": ("psad", {"distillation.target": "pairwise"}),
    "distils teacher-forced": ("psad", {"distillation.source": "forced"}),
    "mutual": ("psad", {"distillation.mutual": True}),
    **{
        f"teacher alone, K={block or 'n'}, {prefix} prefix": (
            "psad",
            {**_TEACHER_ALONE, "teacher.block": block, "teacher.prefix": prefix},
        )
        for prefix in ("self", "gold")
        for block in (1, 2, 5, 10)
    },
    "AR teacher (K=1)": ("psad", {**_TEACHER_ALONE, "teacher.block": 1}),
    "NAR teacher (K=n)": ("psad", {**_TEACHER_ALONE, "teacher.block": 0}),
}
"""Name → method and its settings; a joint run of PSAD gives two rows, its student (S) and its teacher (T)."""

COMPARED = (
    "initial order",
    "MMR",
    "DPP",
    "DLCM",
    "PRM",
    "SetRank",
    "MIR",
    "Seq2Slate",
    "NAR4Rec",
    "PSAD",
    "joint, no distillation",
    "student alone",
    "AR teacher (K=1)",
    "NAR teacher (K=n)",
)
"""What every table of quality has."""


@dataclass(frozen=True)
class Setting:
    """A data set and what every arm of a table has in common.

    Attributes:
        data: ``planted`` or a data set's name.
        overrides: of ``lists`` and ``split``, for a data set.
        trainer: for every arm alike.
    """

    data: str
    overrides: Mapping[str, Any]
    trainer: TrainerConfig

    def rounds(self, seed: int) -> Iterator[tuple[RerankingLists, PlantedWorld | None]]:
        """The lists; planted ones are drawn anew for each seed, and folds of judged ones get other roles."""
        if self.data == PLANTED:
            world = planted_world(seed=seed)
            yield planted_lists(world), world
            return
        config = compose(find_method("prm"), data=self.data, seed=seed, overrides=self.overrides)
        dataset = resolve(self.data)
        rounds = (
            _folds_in_turn(read_lists(dataset.table_path("lists")), config.lists or ListsConfig(), seed)
            if "lists" in dataset.tables
            else prepared_lists(config).rounds.values()
        )
        for lists in rounds:
            yield lists, None


def _folds_in_turn(judged: JudgedLists, settings: ListsConfig, seed: int) -> Iterator[RerankingLists]:
    """Each fold tested once. Which other one validates, and so which train, changes with the seed: what a model reaches
    on a few dozen lists depends on these roles more than on its first weights."""
    folds = sorted(set(judged.folds.tolist()))
    step = 1 + seed % (len(folds) - 1)
    for place, fold in enumerate(folds):
        validation = folds[(place + step) % len(folds)]
        yield lists_from_judged(judged, settings, test_fold=fold, validation_fold=validation)


def measure(setting: Setting, arm: str, seed: int, output: Path) -> Path:
    """Train and measure one arm on one seed, unless its file is there; the file's path.

    The file has one record per served network: each list's metrics, and costs.
    """
    path = output / f"{arm.replace(' ', '-').replace(',', '').replace('/', '')}-{seed}.json"
    if path.exists():
        return path
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for number, (lists, world) in enumerate(setting.rounds(seed)):
        for name, record in _measure_round(setting, arm, seed, lists, world, output / "working" / path.stem).items():
            merged = found.setdefault(name, {key: [] for key in record})
            for key, value in record.items():
                merged[key] += [f"{number}/{each}" for each in value] if key == "list" else value
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"arm": arm, "seed": seed, "data": setting.data, "rows": found}), encoding="utf-8")
    temporary.replace(path)
    return path


def _measure_round(
    setting: Setting, arm: str, seed: int, lists: RerankingLists, world: PlantedWorld | None, folder: Path
) -> dict[str, dict[str, Any]]:
    name, overrides = ARMS[arm]
    method = find_method(name)
    dotted = {f"model.{key}": value for key, value in overrides.items()}
    config = compose_sections({"model": method.config}, dotted)["model"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reranker = method.run_on_lists(RerankingExperiment(config, setting.trainer, lists, seed, folder))
    facts = folder / FIT_FILE
    cost = json.loads(facts.read_text(encoding="utf-8"))["fit_cpu_seconds"] if facts.exists() else 0.0
    shutil.rmtree(folder)
    served: dict[str, Reranker] = {"": reranker}
    if name == "psad":
        model = reranker.model
        served = {} if model.student is None else {"S": StudentReranker(model)}
        served |= {} if model.teacher is None else {"T": TeacherReranker(model)}
    rows, orders = {}, {}
    for network, each in served.items():
        evaluation = evaluate_lists(each, lists, "test", ListEvaluationConfig(cutoffs=list(CUTOFFS)))
        columns = [column for column in evaluation.per_list.columns if "@" in column]
        rows[network] = {
            "list": evaluation.per_list["list_id"].to_list(),
            "history": evaluation.per_list["history_length"].to_list(),
            **{column: evaluation.per_list[column].to_list() for column in columns},
            "fit_cpu_seconds": [cost],
        }
        orders[network] = evaluation.orders
        if world is not None:
            rows[network]["utility@5"] = _utility(world, lists, evaluation.orders).tolist()
    if len(orders) == 2:
        rows["S"]["agreement"] = _agreement(orders["S"], orders["T"])
    return rows


def _utility(world: PlantedWorld, lists: RerankingLists, orders: np.ndarray) -> np.ndarray:
    rows = lists.rows("test")
    items = lists.batch(rows).candidate_items.numpy()
    return world.utility(lists.users[rows], np.take_along_axis(items, orders[:, :5], 1))


def _agreement(one: np.ndarray, other: np.ndarray) -> list[float]:
    """Kendall's tau of two orders of each list, over its candidates (padding agrees with itself and is left out)."""
    places = [_places(orders) for orders in (one, other)]
    taus = []
    for length in np.unique((one >= 0).sum(1)):
        chosen = (one >= 0).sum(1) == length
        if length > 1:
            taus.append(kendall_tau_per_request(-places[0][chosen, :length], -places[1][chosen, :length]))
    return np.concatenate(taus).tolist()


def _places(orders: np.ndarray) -> np.ndarray:
    """Slot of each candidate."""
    slots = np.zeros(orders.shape)
    width = np.broadcast_to(np.arange(orders.shape[1], dtype=float), orders.shape)
    real = orders >= 0
    rows = np.nonzero(real)[0]
    slots[rows, orders[real]] = width[real]
    return slots


def read(output: Path) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """(arm, network) → seed → record, of all finished cells."""
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for path in sorted(output.glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        for network, record in cell["rows"].items():
            found.setdefault((cell["arm"], network), {})[cell["seed"]] = record
    return found


def paired(
    one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]], metric: str, *, fresh_lists: bool
) -> np.ndarray:
    """Differences of the metric, list by list, over the seeds that both have.

    Args:
        one: seed → record.
        other: likewise.
        metric: such as ``ndcg@10``.
        fresh_lists: each seed has lists of its own, which are put side by side; otherwise a list's differences are
            averaged over the seeds that have it.
    """
    differences: dict[str, list[float]] = {}
    for seed in sorted(one.keys() & other.keys()):
        assert one[seed]["list"] == other[seed]["list"]
        for name, first, second in zip(one[seed]["list"], one[seed][metric], other[seed][metric], strict=True):
            differences.setdefault(f"{seed}/{name}" if fresh_lists else name, []).append(first - second)
    return np.array([np.mean(each) for each in differences.values()])


def mean_by_list(record: Mapping[int, Mapping[str, Any]], metric: str) -> dict[str, float]:
    """List → its metric's mean over the seeds that have it."""
    values: dict[str, list[float]] = {}
    for cell in record.values():
        for name, value in zip(cell["list"], cell[metric], strict=True):
            values.setdefault(name, []).append(value)
    return {name: float(np.mean(each)) for name, each in values.items()}


def common_trainer(*, epochs: int, patience: int, batch: int = 128) -> TrainerConfig:
    """The same training for every arm: Adam, the weights of the best validation NDCG@5 are kept."""
    torch.set_num_threads(1)
    return replace(
        TrainerConfig(),
        max_epochs=epochs,
        patience=patience,
        batch_sequences=batch,
        learning_rate=1e-3,
        gradient_clip=5.0,
        monitor="ndcg@5",
        accelerator="cpu",
        tensorboard=False,
        progress=False,
    )
