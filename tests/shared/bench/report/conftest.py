"""Run directories with invented figures, in the format that a finished run leaves behind."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

CUTOFFS = (5, 10, 20)
EPOCHS = 12
MODEL_DEFAULTS = {"dimension": 64, "blocks": 2, "dropout": 0.2}


def user_table(users: int, strength: float, seed: int, *, split_seed: int = 0) -> pl.DataFrame:
    """Per-user metrics of one invented run; runs of one split share their users' difficulty: pairing matters."""
    shared = np.random.default_rng(split_seed)
    difficulty = shared.normal(size=users)
    repeats = shared.random(users) < 0.6
    tied = shared.random(users) < 0.43
    own = np.random.default_rng(seed)
    latent = strength + 1.2 * difficulty + 0.5 * own.normal(size=users) + 0.5 * repeats
    rank = np.ceil(np.exp(np.clip(4.2 - latent, 0.0, 12.0))).astype(np.int64)
    columns: dict[str, Any] = {
        "user_id": [f"user-{number:05d}" for number in range(users)],
        "history_length": shared.integers(3, 200, users).astype(np.int32),
        "targets": np.ones(users, dtype=np.int32),
        "activity": np.array(["low", "middle", "high"])[shared.integers(0, 3, users)],
        "popularity": np.array(["head", "middle", "tail"])[shared.integers(0, 3, users)],
        "tied": tied,
    }
    for cutoff in CUTOFFS:
        hit = (rank <= cutoff).astype(np.float64)
        columns[f"hit_rate@{cutoff}"] = hit
        columns[f"ndcg@{cutoff}"] = hit / np.log2(1.0 + rank)
        columns[f"mrr@{cutoff}"] = hit / rank
    for slice_name, of_slice in (("repeat", repeats), ("explore", ~repeats)):
        columns[f"ndcg@10/{slice_name}"] = np.where(of_slice, columns["ndcg@10"], np.nan)
    return pl.DataFrame(columns).with_columns(
        pl.col(f"ndcg@10/{name}").fill_nan(None) for name in ("repeat", "explore")
    )


def metric_names(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if "@" in name]


def group_summaries(table: pl.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    names = metric_names(table)
    groups: dict[str, dict[str, dict[str, float]]] = {}
    labelled = table.with_columns(tied=pl.when("tied").then(pl.lit("tied")).otherwise(pl.lit("new time")))
    orders = {
        "activity": ("low", "middle", "high"),
        "popularity": ("tail", "middle", "head"),
        "tied": ("tied", "new time"),
    }
    for column, order in orders.items():
        summary = labelled.group_by(column).agg(pl.len().alias("users"), *(pl.col(name).mean() for name in names))
        found = {row.pop(column): row for row in summary.to_dicts()}
        groups[column] = {group: found[group] for group in order if group in found}
    return groups


def curves_csv(final: float, seed: int) -> str:
    random = np.random.default_rng(seed)
    lines = ["epoch,step,name,value"]
    for epoch in range(1, EPOCHS + 1):
        progress = 1.0 - np.exp(-0.45 * epoch)
        loss = 6.5 - 2.0 * progress + 0.02 * random.normal()
        value = max(0.0, final * progress * (1.0 - 0.004 * max(0, epoch - 9)) + 0.0006 * random.normal())
        lines.append(f"{epoch},{epoch * 40},loss,{loss:.5f}")
        lines.append(f"{epoch},{epoch * 40},ndcg@10,{value:.5f}")
    return "\n".join(lines) + "\n"


def write_run(
    root: Path,
    method: str,
    seed: int = 0,
    *,
    strength: float = 0.0,
    variant: str = "default",
    overrides: Mapping[str, Any] | None = None,
    trained: bool = True,
    fingerprint: str = "3f9a1c07d2e845b6",
    ties: str = "shuffle",
    data: str = "invented-groceries",
    users: int = 400,
    exclude_seen: bool = False,
    failed: str | None = None,
    cost_scale: float = 1.0,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one run directory of invented figures and return its path."""
    overrides = dict(overrides or {})
    suffix = f"-{zlib.crc32(json.dumps(overrides, sort_keys=True).encode()):08x}" if overrides else ""
    directory = root / f"{data}-{fingerprint}" / method / f"{variant}{suffix}" / f"seed-{seed}"
    directory.mkdir(parents=True)
    run_seed = zlib.crc32(f"{method}{variant}{suffix}{seed}".encode())
    random = np.random.default_rng(run_seed)
    model = MODEL_DEFAULTS | {key.removeprefix("model."): value for key, value in overrides.items()}
    config = {
        "method": method,
        "variant": variant,
        "seed": seed,
        "data": data,
        "split": {"protocol": "last-basket", "ties": ties, "user_min_events": 5, "item_min_events": 5},
        "model": model if trained else {},
        "trainer": {"max_epochs": EPOCHS, "learning_rate": 0.001, "monitor": "ndcg@10"},
        "evaluation": {"cutoffs": list(CUTOFFS), "exclude_seen": exclude_seen, "max_users": 0},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (directory / "log.txt").write_text("An invented run.\n")
    result: dict[str, Any] = {
        "format": 1,
        "method": method,
        "variant": variant,
        "overrides": overrides,
        "seed": seed,
        "stage": "retrieval",
        "trained": trained,
        "data": {"name": data, "fingerprint": "b7" * 32, "synthetic": True, "terms": "invented figures, free to use"},
        "split": {
            "fingerprint": fingerprint,
            "protocol": "last-basket",
            "ties": ties,
            "cold_items": "miss",
            "catalogue": "training",
            "filters": {"user_min_events": 5, "item_min_events": 5},
            "counts": {"users": users, "items": 8431, "training_events": 61002, "test_users": users},
            "tied_target_share": 0.43,
        },
        "evaluation": config["evaluation"],
        "versions": {"recascade": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "lightning": "2.6.6"},
        "device": "cpu (an invented processor)",
        "threads": 1,
        "started": "2026-11-22T10:00:00+00:00",
        "finished": "2026-11-22T10:04:00+00:00",
        "status": "failed" if failed else "finished",
        "error": failed,
    }
    if failed is None:
        table = user_table(users, strength, run_seed, split_seed=zlib.crc32(fingerprint.encode()))
        table.write_parquet(directory / "metrics.parquet")
        test = {name: table[name].mean() for name in metric_names(table)}
        beyond = {
            "coverage@10": 0.04 + 0.1 * random.random(),
            "gini@10": 0.95 - 0.1 * random.random(),
            "novelty@10": 9.5,
        }
        result["metrics"] = {"validation": {name: 1.03 * value for name, value in test.items()}, "test": test | beyond}
        result["groups"] = group_summaries(table)
        seconds = cost_scale * (60.0 + 4.0 * random.random()) if trained else 0.3 * cost_scale
        result["cost"] = {
            "fit_cpu_seconds": seconds,
            "fit_seconds": seconds * 1.04,
            "evaluation_cpu_seconds": 2.1,
            "evaluation_seconds": 2.2,
            "peak_memory_bytes": int(4.1e8 + 5e7 * cost_scale),
            "gpu_seconds": None,
            "targets_per_second": 21_000 / cost_scale if trained else None,
            "epochs": EPOCHS if trained else 0,
            "best_epoch": 9 if trained else None,
            "parameters": 810_432 if trained else 0,
            "latency_ms": {"p50": 0.9 * cost_scale, "p99": 2.4 * cost_scale, "batch": 1, "clock": "cpu"},
        }
        if trained:
            (directory / "curves.csv").write_text(curves_csv(float(test["ndcg@10"]), run_seed))
    for key, value in (changes or {}).items():
        result[key] = {**result[key], **value} if isinstance(value, Mapping) and key in result else value
    (directory / "result.json").write_text(json.dumps(result))
    return directory


def write_sweep(root: Path, **common: Any) -> Path:
    """A small leaderboard: two floors, two trained methods with two seeds each."""
    write_run(root, "popularity", strength=0.2, trained=False, **common)
    write_run(root, "personal-frequency", strength=0.6, trained=False, **common)
    for seed in (0, 1):
        write_run(root, "gru4rec", seed, strength=0.9, cost_scale=1.4, **common)
        write_run(root, "sasrec", seed, strength=1.5, **common)
    return root


def write_ablation(root: Path, **common: Any) -> Path:
    """A complete two by three grid of one method; the default configuration is one of its cells."""
    for dimension, gain in ((32, -0.2), (64, 0.0), (128, 0.1)):
        for dropout, more in ((0.2, 0.0), (0.5, -0.3)):
            cell = {"model.dimension": dimension, "model.dropout": dropout}
            overrides = {
                key: value for key, value in cell.items() if MODEL_DEFAULTS[key.removeprefix("model.")] != value
            }
            for seed in (0, 1):
                write_run(root, "hstu", seed, strength=1.4 + gain + more, overrides=overrides, **common)
    return root


@pytest.fixture
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "runs")


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    return write_ablation(tmp_path / "runs")
