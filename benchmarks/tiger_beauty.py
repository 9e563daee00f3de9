"""TIGER on Amazon Beauty, the public figure that semantic ids are judged by: leave one out, all items ranked.

A first model is stopped on validation users and tells the number of epochs (``--epochs`` gives it instead); then each
seed makes its ids anew and trains for that many epochs with the validation events, as ``trainer.refit=true`` does. The
test part is ranked twice, with and without the items that a user has had, since published figures do not say which they
mean. Every item has an id of its own here (``conflicts.policy=reassign``), so that a figure of ids and one of items are
the same. A finished seed is never computed again.

    python benchmarks/tiger_beauty.py --output runs/tiger-beauty --seeds 3
    python benchmarks/tiger_beauty.py --output runs/tiger-beauty --seeds 3 --epochs 42
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recascade.bench.config import compose
from recascade.bench.registry import find_method
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.files import write_json

DATA = "amazon-beauty"
METRICS = ("hit_rate@10", "ndcg@10")
# Chosen on validation users; docs/gr4ad.md says how.
SETTINGS: dict[str, Any] = {
    "model.encoder": "causal",
    "model.reading": "items",
    "model.code_start": "content",
    "model.dimension": 96,
    "model.encoder_blocks": 2,
    "model.decoder_blocks": 2,
    "model.heads": 4,
    "model.head_width": None,
    "model.hidden": 384,
    "model.dropout": 0.15,
    "model.tokenizer.content.columns": ["title", "categories"],
    "model.tokenizer.content.dimension": 512,
    "model.tokenizer.contrastive.epochs": 60,
    "model.tokenizer.contrastive.hidden": 1024,
    "model.tokenizer.conflicts.policy": "reassign",
    "trainer.max_epochs": 48,
    "trainer.validate_every": 6,
    "trainer.validation_users": 4000,
    "trainer.batch_sequences": 128,
    "trainer.warmup_steps": 300,
    "trainer.weight_decay": 0.01,
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.accelerator": "cpu",
}


class Study:
    """The data, the method, and a folder of finished seeds."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.method = find_method("tiger")
        self.split = cached_split(resolve(DATA), SplitConfig(ties="file"))
        self.data = encode(self.split)

    def epochs(self) -> int:
        """Epochs after which the first seed ranks the validation users best."""
        folder = self.output / "choosing"
        config = compose(self.method, data=DATA, overrides=SETTINGS)
        self.method.run(Experiment(config.model, config.trainer, self.data, self.split, 0, folder))
        return int(json.loads((folder / "fit.json").read_text(encoding="utf-8"))["best_epoch"])

    def measure(self, seed: int, epochs: int) -> dict[str, Any]:
        """Train one seed with the validation events and rank the test part; per user in a Parquet file."""
        folder = self.output / f"seed-{seed}"
        kept = folder / "measured.json"
        if kept.exists():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        config = compose(self.method, data=DATA, overrides=SETTINGS)
        # There is nothing left to stop on.
        trainer = replace(config.trainer, max_epochs=epochs, validate_every=0, patience=0)
        trained = self.data.with_validation_trained()
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.process_time()
        retriever = self.method.run(Experiment(config.model, trainer, trained, self.split, seed, folder))
        result: dict[str, Any] = {"seed": seed, "epochs": epochs, "cpu_seconds": time.process_time() - begin}
        for name, exclude_seen in (("seen allowed", False), ("seen left out", True)):
            found = evaluate(retriever, trained, "test", EvaluationConfig(exclude_seen=exclude_seen))
            found.per_user.write_parquet(folder / f"{name.replace(' ', '-')}.parquet")
            tied = found.groups["tied"]
            result[name] = {
                metric: {
                    "all": found.summary[metric],
                    "same day": tied["tied"][metric],
                    "new day": tied["new time"][metric],
                }
                for metric in METRICS
            }
        write_json(kept, result)
        return result


def print_table(output: Path, results: list[dict[str, Any]]) -> None:
    """Means over seeds with their standard deviation, and the standard error over users of the mean."""
    print("| | targets | " + " | ".join(METRICS) + " |\n| --- | --- | ---: | ---: |")
    for name in ("seen allowed", "seen left out"):
        for targets in ("all", "same day", "new day"):
            cells = [[result[name][metric][targets] for result in results] for metric in METRICS]
            spread = [f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "" for values in cells]
            means = [f"{np.mean(values):.4f}{more}" for values, more in zip(cells, spread, strict=True)]
            print(f"| {name} | {targets} | {' | '.join(means)} |")
    users = pl.concat([pl.read_parquet(output / f"seed-{each['seed']}" / "seen-left-out.parquet") for each in results])
    hits = users.group_by("user_id").agg(pl.col("hit_rate@10").mean())["hit_rate@10"].to_numpy()
    print(f"Standard error of hit_rate@10 over {len(hits)} users: {np.std(hits) / len(hits) ** 0.5:.4f}")
    seconds = ", ".join(f"{result['cpu_seconds']:.0f}" for result in results)
    print(f"CPU seconds of each seed: {seconds}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="0 chooses them on validation users")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.output)
    epochs = arguments.epochs or study.epochs()
    print_table(arguments.output, [study.measure(seed, epochs) for seed in range(arguments.seeds)])


if __name__ == "__main__":
    main()
