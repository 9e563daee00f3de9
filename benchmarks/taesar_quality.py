"""Taesar against what it must beat: the target domain's own events, all events mixed, and insertions without a model.

One set of models per seed regenerates all domains; then each cell trains one backbone on one domain's data and ranks
the domain's whole catalogue for the users whose last event is in it. Weights are chosen on validation events, and so is
the learning rate, from one grid for every arm, with the first seed: more rows are more steps per epoch, so that at one
rate for all the arm with fewer rows may merely have learnt too little. Finished cells are kept: stop and repeat the
command as often as you like, with more seeds or other arms.

    python benchmarks/taesar_quality.py amazon-crossdomain --output runs/taesar/amazon --seeds 2
    python benchmarks/taesar_quality.py completejourney --output runs/taesar/completejourney --arms target-only default

For completejourney a domain is a department (the four largest after GROCERY, which is two thirds of the log), and the
events of the last quarter are used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.bench.config import compose
from recascade.contracts.method import Experiment
from recascade.data.audit import audit
from recascade.data.dataset import Dataset
from recascade.data.domains import with_domains
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.significance import compare_paired, mean_over_seeds
from recascade.files import write_atomically, write_json
from recascade.settings import parse_overrides
from recascade_taesar.blocks import DomainBlocks
from recascade_taesar.method import METHOD
from recascade_taesar.models import train_models
from recascade_taesar.regenerate import appearance_ranks

ARMS = ("target-only", "default", "random-successor", "release", "mixed", "shifted", "replace")
BACKBONES = ("sasrec", "gru4rec", "hstu", "cl4srec")
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
METRICS = ("ndcg@10", "hit_rate@10")
# Of a year of groceries the last quarter: what 126 events of a household reach back to, roughly.
SINCE = "2017-10-01"
DEPARTMENTS = ("DRUG GM", "PRODUCE", "MEAT-PCKGD", "MEAT")
DEFAULTS: dict[str, Any] = {
    "model.regenerator.epochs": 40,
    "model.regenerator.patience": 3,
    "model.regenerator.adaptation_epochs": 10,
    "model.regenerator.adaptation_patience": 2,
    "trainer.patience": 3,
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.accelerator": "cpu",
}


def prepare(name: str, output: Path) -> Dataset:
    """The data set with domains: as it is, or with the departments of completejourney as domains."""
    dataset = resolve(name)
    if dataset.has("domain"):
        return dataset
    folder = output / "data"
    if not folder.is_dir():
        with_domains(dataset, "department", folder, keep=DEPARTMENTS)
    return Dataset.open(folder)


def rules(dataset: Dataset, target: str = "") -> SplitConfig:
    """Leave-one-out over the 5-core of the mixed log."""
    since = SINCE if dataset.facts.get("adapter") == "domains" else ""
    return SplitConfig(user_min_events=5, item_min_events=5, since=since, target_domain=target)


def train_regenerators(dataset: Dataset, seed: int, output: Path, overrides: dict[str, Any]) -> Path:
    """One mixed model and one expert per domain, chosen by the validation events of all domains."""
    folder = output / "models" / f"seed-{seed}"
    config = compose(METHOD, data=dataset.name, overrides=overrides)
    begin = time.process_time()
    train_models(encode(cached_split(dataset, rules(dataset))), config.model.regenerator, folder, seed, config.trainer)
    if not (folder / "cost.json").is_file():
        write_json(folder / "cost.json", {"cpu_seconds": time.process_time() - begin})
    return folder.parent


def measure(
    dataset: Dataset,
    target: str,
    backbone: str,
    arm: str,
    learning_rate: float,
    seed: int,
    output: Path,
    overrides: dict[str, Any],
) -> dict[str, Any]:
    """Train and measure one cell, and keep what every test user got."""
    rows = f"{target.replace('/', '-')}-{arm}-{seed}"
    path = output / "cells" / f"{rows}-{backbone}-{learning_rate:g}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    split = cached_split(dataset, rules(dataset, target))
    data = encode(split)
    chosen = overrides | {
        "model.models": str(output / "models"),
        "model.backbone.name": backbone,
        "trainer.learning_rate": learning_rate,
    }
    if backbone == "gru4rec":
        chosen["model.backbone.blocks"] = 1
    config = compose(METHOD, data=dataset.name, variant=arm, seed=seed, overrides=chosen)
    folder = output / "working" / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # What a domain's data are does not depend on who learns from them: made for the first backbone, read by all.
    kept = output / "rows" / rows
    if kept.is_dir():
        shutil.copytree(kept, folder / "regenerated")
    begin = time.process_time()
    retriever = METHOD.run(Experiment(config.model, config.trainer, data, split, seed, folder))
    cost = time.process_time() - begin
    parts = {part: evaluate(retriever, data, part, config.evaluation) for part in ("validation", "test")}
    found: dict[str, Any] = {"leaks": 0, "guesses": 0, "rows": {}}
    if (folder / "regenerated").is_dir():
        made = Dataset.open(folder / "regenerated")
        report = audit(made, split)
        found = {"leaks": report.leaking_users, "guesses": report.guessing_users, "rows": made.facts["counts"]}
        if not kept.is_dir():
            kept.parent.mkdir(exist_ok=True)
            shutil.move(folder / "regenerated", kept)
    users = parts["test"].per_user.with_columns(leaky=pl.Series(leaky_rows(split, data)))
    with write_atomically(path.with_suffix(".parquet")) as temporary:
        users.select("user_id", "leaky", *METRICS).write_parquet(temporary)
    cell: dict[str, Any] = {
        "target": target,
        "backbone": backbone,
        "arm": arm,
        "learning_rate": learning_rate,
        "seed": seed,
        "cpu_seconds": cost,
        "validation": parts["validation"].summary["ndcg@10"],
        "split": split.manifest.fingerprint,
        **found,
    }
    write_json(path, cell)
    shutil.rmtree(folder)
    return cell


def leaky_rows(split: Split, data: EncodedSplit) -> NDArray[np.bool_]:
    """bool ``[E]``: test users whose target has the number after that of an item of their own history in the domain,
    when items are numbered by first appearance as the release does: whom its error can help."""
    assert data.item_domains is not None
    blocks = DomainBlocks.of(data.item_domains, appearance_ranks(split, data))
    before = np.full(len(data.items), -1)
    before[blocks.order[1:]] = blocks.order[:-1]
    events, test = data.events, data.test
    lengths = test.history_ends - events.offsets[test.users]
    known = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(test)), lengths),
            "item": np.asarray(events.items)[ranges(events.offsets[test.users], lengths)].astype(np.int64),
        }
    )
    targets = np.asarray(test.target_items).astype(np.int64)
    asked = pl.DataFrame({"row": np.arange(len(test)), "item": np.where(targets >= 0, before[targets], -1)})
    hits = asked.join(known.unique(), on=["row", "item"], how="semi")["row"]
    return np.isin(np.arange(len(test)), hits.to_numpy())


def table(output: Path, against: str) -> str:
    """Differences from the arm ``against``, each at its chosen rate, users paired, seeds averaged per user first."""
    cells = [json.loads(path.read_text()) | {"path": path} for path in sorted((output / "cells").glob("*.json"))]
    lines = [
        f"| domain | backbone | arm | rate | seeds | NDCG@10 | HR@10 | − {against} | p | clean | leaky | leaks |",
        "|" + " --- |" * 12,
    ]
    for target, backbone in dict.fromkeys((cell["target"], cell["backbone"]) for cell in cells):
        own = {
            arm: at_chosen_rate([c for c in cells if (c["target"], c["backbone"], c["arm"]) == (target, backbone, arm)])
            for arm in ARMS
        }
        base = own[against]
        for found in own.values():
            if found:
                lines.append(line(found, base))
    return "\n".join(lines)


def at_chosen_rate(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with the learning rate that the first seed chose."""
    first = [cell for cell in cells if cell["seed"] == 0]
    return [cell for cell in cells if cell["learning_rate"] == best_rate(first)] if first else []


def best_rate(cells: list[dict[str, Any]]) -> float:
    """The learning rate that is best on validation events."""
    return float(max(cells, key=lambda cell: cell["validation"])["learning_rate"])


def line(found: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    """One arm on the seeds that the arm it is compared with has too."""
    seeds = {cell["seed"] for cell in found} & {cell["seed"] for cell in base}
    own, other = means(found, seeds), means(base, seeds)
    arm = found[0]["arm"]
    cells = [found[0]["target"], found[0]["backbone"], arm, f"{found[0]['learning_rate']:g}", str(len(seeds))]
    if not seeds:
        return "| " + " | ".join([*cells, *["–"] * 7]) + " |"
    cells += [f"{own['ndcg@10'].mean():.4f}", f"{own['hit_rate@10'].mean():.4f}"]
    if found is base:
        cells += ["", ""]
    else:
        tested = compare_paired(own["ndcg@10"], other["ndcg@10"])
        cells += [f"{tested.difference:+.4f} [{tested.low:+.4f}, {tested.high:+.4f}]", f"{tested.p_value:.3f}"]
    leaky = own["leaky"].astype(bool)
    cells += [f"{own['ndcg@10'][~leaky].mean():.4f}", f"{own['ndcg@10'][leaky].mean():.4f}" if leaky.any() else "–"]
    return "| " + " | ".join([*cells, str(max(cell["leaks"] for cell in found))]) + " |"


def means(found: list[dict[str, Any]], seeds: set[int]) -> dict[str, NDArray[np.float64]]:
    """Per user, the mean over these seeds."""
    tables = [pl.read_parquet(cell["path"].with_suffix(".parquet")) for cell in found if cell["seed"] in seeds]
    columns = ("leaky", *METRICS)
    return {name: mean_over_seeds([table[name].cast(pl.Float64).to_numpy() for table in tables]) for name in columns}


def main() -> None:
    """Compute what is missing, arm by arm, and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="model.… and trainer.… of all cells")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=ARMS[:4], choices=ARMS)
    parser.add_argument("--against", default="target-only", choices=ARMS, help="what every arm is compared with")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES[:2], choices=BACKBONES)
    parser.add_argument("--learning-rates", nargs="+", type=float, default=LEARNING_RATES)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = prepare(arguments.data, arguments.output)
    overrides = DEFAULTS | parse_overrides(arguments.set)
    targets = encode(cached_split(dataset, rules(dataset))).item_domains
    assert targets is not None
    chosen: dict[tuple[str, str, str], float] = {}
    for seed in range(arguments.seeds):
        train_regenerators(dataset, seed, arguments.output, overrides)
        for backbone, target, arm in product(arguments.backbones, targets.names, arguments.arms):
            rates = [chosen[backbone, target, arm]] if seed else arguments.learning_rates
            found = [measure(dataset, target, backbone, arm, rate, seed, arguments.output, overrides) for rate in rates]
            chosen[backbone, target, arm] = best_rate(found)
            print(table(arguments.output, arguments.against), flush=True)


if __name__ == "__main__":
    main()
