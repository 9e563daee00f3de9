"""ReCast's learning beside its controls: one supervised model per seed, then every second stage from it.

Half of the users train the supervised model, the other half are prompts of the second stage. The learning rate is
chosen per variant by the validation hit rate at 10 of the first seed, from one grid for all; the test part is asked
once per variant and seed. Pass@1 on validation users is measured along the way: it gives the share of GRPO's prompts
after which a variant first reaches the Pass@1 that GRPO ends with. CPU seconds hold these measurements, too. A finished
cell is never computed again.

    python benchmarks/recast_learning.py amazon-beauty --seeds 5 --output runs/recast/beauty
    python benchmarks/recast_learning.py ml-100k --seeds 2 --steps 40 --epochs 2 --output runs/recast/ml-100k
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats

from recascade.bench.config import compose
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.settings import parse_overrides
from recascade_recast.method import METHOD, VARIANTS

CONTROL = "sft-continuation"
COMPARED = (CONTROL, "grpo", "repair-only", "contrast-only", "recast", "random-negative", "always-gt", "dapo-filter")
CUTOFFS = (1, 10, 32)
CHOSEN_BY = "hit_rate@10"
PASS_AT_1 = "health/hit_rate"
NO_HIT = "all_zero_rate"


@dataclass(frozen=True)
class Settings:
    """What every cell shares; a change of it asks for another output folder. A grid of learning rates may grow."""

    data: str
    epochs: int
    steps: int
    width: int
    divergence: float
    overrides: dict[str, Any]


class Study:
    """One data set, and the cells measured on it."""

    def __init__(self, settings: Settings, learning_rates: Sequence[float], output: Path) -> None:
        self.settings = settings
        self.learning_rates = learning_rates
        self.output = output
        self.evaluation = EvaluationConfig(cutoffs=list(CUTOFFS), metrics=["hit_rate", "ndcg"])

    @cached_property
    def split(self) -> Split:
        """Leave-one-out."""
        return cached_split(resolve(self.settings.data), SplitConfig())

    @cached_property
    def data(self) -> EncodedSplit:
        """The split, encoded."""
        return encode(self.split)

    def supervised(self, seed: int) -> dict[str, Any]:
        """The model that all second stages of a seed start from."""
        return self._cell(f"sft-{seed}", "sft", seed, {})

    def second_stage(self, variant: str, seed: int, learning_rate: float) -> dict[str, Any]:
        """One variant from the supervised model of its seed."""
        overrides = {
            "model.start": str(self.output / f"sft-{seed}"),
            "model.update.learning_rate": learning_rate,
        }
        return self._cell(f"{variant}-{learning_rate:g}-{seed}", variant, seed, overrides)

    def learning_rate(self, variant: str) -> float:
        """Of the grid, the best on the validation part of the first seed."""
        reached = {rate: self.second_stage(variant, 0, rate)["validation"][CHOSEN_BY] for rate in self.learning_rates}
        return max(reached, key=lambda rate: reached[rate])

    def _cell(self, name: str, variant: str, seed: int, overrides: dict[str, Any]) -> dict[str, Any]:
        folder = self.output / name
        found = folder / "cell.json"
        if found.exists():
            return dict(json.loads(found.read_text(encoding="utf-8")))
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        common: dict[str, Any] = {
            "trainer.max_epochs": settings.epochs,
            "trainer.validate_every": max(1, settings.epochs // 4),
            "trainer.validation_users": 2000,
            "trainer.patience": 0,
            "trainer.progress": False,
            "trainer.tensorboard": False,
            "trainer.accelerator": "cpu",
            "trainer.log_every": 10,
            "model.rollout.width": settings.width,
            "model.update.steps": settings.steps,
            "model.update.divergence": settings.divergence,
            "model.guard.cutoff": 1,
            "model.guard.users": 2000,
            "model.guard.every": max(1, settings.steps // 6),
        }
        config = compose(METHOD, data=settings.data, variant=variant, overrides=common | settings.overrides | overrides)
        # An interrupted cell resumes and would count its last session alone, so the fit's own account is read.
        begin = time.process_time()
        retriever = METHOD.run(Experiment(config.model, config.trainer, self.data, self.split, seed, folder))
        seconds = time.process_time() - begin
        facts = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
        cell = {
            "variant": variant,
            "seed": seed,
            "learning_rate": config.model.update.learning_rate,
            "cpu_seconds": facts["fit_cpu_seconds"] or seconds,
            "validation": self._measure(retriever, "validation"),
            "test": self._measure(retriever, "test"),
            "reinforcement": facts.get("reinforcement", {}),
            "health": facts.get("health", {}),
            "curve": _curve(folder / "reinforced" / "curves.csv", PASS_AT_1),
            "groups_without_hit": _mean_of(_curve(folder / "reinforced" / "curves.csv", NO_HIT)),
        }
        found.write_text(json.dumps(cell, indent=1), encoding="utf-8")
        print(f"{name}: {cell['test']}", flush=True)
        return cell

    def _measure(self, retriever: Any, part: Literal["validation", "test"]) -> dict[str, float]:
        summary = evaluate(retriever, self.data, part, self.evaluation).summary
        return {f"hit_rate@{k}": summary[f"hit_rate@{k}"] for k in CUTOFFS} | {"ndcg@10": summary["ndcg@10"]}


def _curve(curves: Path, name: str) -> list[tuple[int, float]]:
    """Step and value of one figure of the second stage."""
    if not curves.exists():
        return []
    with curves.open(encoding="utf-8") as lines:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(lines) if row["name"] == name]


def _mean_of(curve: Sequence[tuple[int, float]]) -> float | None:
    return float(np.mean([value for _, value in curve])) if curve else None


def steps_to_reach(curve: Sequence[tuple[int, float]], start: float, goal: float) -> float:
    """Steps after which a curve first reaches ``goal``, linear between measurements; NaN where it never does."""
    steps, values = [0, *(step for step, _ in curve)], [start, *(value for _, value in curve)]
    for position in range(1, len(steps)):
        if values[position] >= goal:
            rise = values[position] - values[position - 1]
            share = (goal - values[position - 1]) / rise if rise > 0 else 0.0
            return steps[position - 1] + max(0.0, share) * (steps[position] - steps[position - 1])
    return float("nan")


def print_table(supervised: dict[int, dict[str, Any]], cells: dict[str, dict[int, dict[str, Any]]]) -> None:
    """Means over seeds; in brackets the difference from supervised continuation with its 95 % interval."""
    names = "variant, seeds, learning rate, Pass@1, at 10, at 32, NDCG@10, groups without a hit, actor tokens, CPU s"
    columns = [*names.split(", "), "share of GRPO's prompts"]
    print("\n| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    control = cells.get(CONTROL, {})
    for variant, runs in {"sft": supervised, **cells}.items():
        measured = [
            _beside({s: run["test"][m] for s, run in runs.items()}, {s: run["test"][m] for s, run in control.items()})
            for m in ("hit_rate@1", "hit_rate@10", "hit_rate@32", "ndcg@10")
        ]
        misses = [run["groups_without_hit"] for run in runs.values() if run["groups_without_hit"] is not None]
        tokens = [run["reinforcement"].get("actor_tokens", 0) for run in runs.values()]
        rate = next(iter(runs.values()))["learning_rate"]
        row = [
            f"`{variant}`",
            str(len(runs)),
            "" if variant == "sft" else f"{rate:g}",
            *measured,
            f"{np.mean(misses):.0%}" if misses else "",
            f"{np.mean(tokens):,.0f}",
            f"{np.mean([run['cpu_seconds'] for run in runs.values()]):,.0f}",
            _budget(runs, cells.get("grpo", {})),
        ]
        print(f"| {' | '.join(row)} |")


def _beside(values: dict[int, float], control: dict[int, float]) -> str:
    mean = f"{np.mean(list(values.values())):.4f}"
    differences = [values[seed] - control[seed] for seed in sorted(values.keys() & control.keys())]
    if len(differences) < 2 or not any(differences):
        return mean
    half = stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1)
    return f"{mean} ({np.mean(differences):+.4f} ± {half:.4f})"


def _budget(runs: dict[int, dict[str, Any]], grpo: dict[int, dict[str, Any]]) -> str:
    """Per seed, prompts until GRPO's last Pass@1 is reached over GRPO's prompts; ``-`` where it is not reached."""
    shares = []
    for seed, run in sorted(runs.items()):
        if not run["curve"] or not grpo.get(seed, {}).get("curve"):
            continue
        last_step, goal = grpo[seed]["curve"][-1]
        shares.append(steps_to_reach(run["curve"], run["health"]["supervised"], goal) / last_step)
    return ", ".join("-" if np.isnan(share) else f"{share:.0%}" for share in shares)


def study(
    settings: Settings, learning_rates: Sequence[float], output: Path, variants: Iterable[str], seeds: int
) -> None:
    """Compute what is missing and print the table after every seed."""
    output.mkdir(parents=True, exist_ok=True)
    kept = output / "settings.json"
    said = json.dumps(asdict(settings))
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != json.loads(said):
        raise SystemExit(f"{output} was measured with {kept.read_text(encoding='utf-8')}; choose another --output.")
    kept.write_text(said, encoding="utf-8")
    here = Study(settings, learning_rates, output)
    supervised: dict[int, dict[str, Any]] = {}
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in range(seeds):
        supervised[seed] = here.supervised(seed)
        for variant in variants:
            cells.setdefault(variant, {})[seed] = here.second_stage(variant, seed, here.learning_rate(variant))
        print_table(supervised, cells)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=COMPARED)
    parser.add_argument("--epochs", type=int, default=12, help="of supervised training")
    parser.add_argument("--steps", type=int, default=300, help="batches of 64 prompts in the second stage")
    parser.add_argument("--width", type=int, default=32, help="answers of a group")
    parser.add_argument("--divergence", type=float, default=0.001, help="weight of the divergence")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=(3e-5, 1e-4, 3e-4))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="model.… and trainer.… of all cells")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(
        arguments.data,
        arguments.epochs,
        arguments.steps,
        arguments.width,
        arguments.divergence,
        parse_overrides(arguments.set),
    )
    study(settings, arguments.learning_rates, arguments.output, arguments.variants, arguments.seeds)


if __name__ == "__main__":
    main()
