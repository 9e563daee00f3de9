"""CS3 online: four backbones, each mechanism alone and together, with and without a user identity, over paired seeds.

Every event is predicted once, before its label is used; figures are over the second half of the stream. A seed decides
the learner's initialisation, the order of events inside one second and the sampled impressions; for planted streams
also the stream itself. A finished cell is never computed again, so that the command can be stopped and repeated.

    python benchmarks/cs3_prequential.py ml-100k --output runs/cs3/ml-100k
    python benchmarks/cs3_prequential.py planted-dense --identities without --output runs/cs3/planted-dense
    python benchmarks/cs3_prequential.py ml-100k --controls --output runs/cs3/ml-100k
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

BACKBONES = ("dssm", "dat", "int_tower", "transformer")
VARIANTS = ("base", "cas", "cts", "cms", "cas-cms", "default")
METRICS = ("auc", "gauc", "log_loss")
WITHOUT = "without"

# What each log is asked: a rating of at least 4; a click; or a purchase against one sampled impression.
# Drawn in proportion to its popularity, the impression cannot be told from the purchase by popularity alone; drawn
# uniformly, it can, and whatever tells how popular an item is looks good.
PLANTED = {"stream.label": "click"}
PURCHASES = {
    "stream.negatives": 1,
    "stream.label_delay": 1,
    "stream.since": "2017-12-01",
    "stream.batch": 1024,
}
STREAMS: dict[str, dict[str, Any]] = {
    "ml-100k": {"stream.label": "rating", "stream.positive_from": 4},
    "ml-1m": {
        "stream.label": "rating",
        "stream.positive_from": 4,
        "stream.unknown_times": "drop",
        "stream.batch": 2048,
    },
    "completejourney": PURCHASES | {"stream.negative_popularity": 1.0},
    "completejourney-uniform": PURCHASES,
    "planted-dense": PLANTED,
    "planted-dense-drift": PLANTED,
    "planted-sparse": PLANTED,
}
# Beside the mechanisms, on DSSM: what they are compared with, and controls that should gain nothing.
CONTROLS: dict[str, dict[str, Any]] = {
    "distillation": {},
    "factorisation": {},
    "random-vectors": {},
    "untrained-ranker": {},
    "serving-preset": {},
    "frozen": {"model.tables.freeze_after": "half"},
    "alpha=beta=0.5": {"model.cts.alpha": 0.5, "model.cms.beta": 0.5},
    "alpha=beta=0.9": {"model.cts.alpha": 0.9, "model.cms.beta": 0.9},
    "alpha=beta=0.95": {"model.cts.alpha": 0.95, "model.cms.beta": 0.95},
}


@dataclass(frozen=True)
class Cell:
    """One online run."""

    data: str
    backbone: str
    variant: str
    identity: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.backbone}-{self.identity}-{self.variant}-{self.seed}.json"


def measure(cell: Cell, output: Path) -> None:
    """Compute one cell and keep what the tables need."""
    import shutil

    import torch

    from recascade.data.sources import resolve
    from recascade_cs3.method import VARIANTS as KNOWN
    from recascade_cs3.online import compose_online, run_online

    torch.set_num_threads(1)
    dataset = _planted(cell, output) if cell.data.startswith("planted") else resolve(cell.data.removesuffix("-uniform"))
    model = {f"model.{key}": value for key, value in KNOWN.get(cell.variant, {}).items()}
    overrides = model | STREAMS[cell.data] | CONTROLS.get(cell.variant, {})
    overrides |= {
        "stream.seed": cell.seed,
        "model.backbone.name": model.get("model.backbone.name", cell.backbone),
        "model.backbone.user_identity": cell.identity != WITHOUT,
        "pace.checkpoint_events": 10**12,
        "pace.probe_events": 20_000,
    }
    if overrides.get("model.tables.freeze_after") == "half":
        overrides["model.tables.freeze_after"] = _events(dataset, overrides) // 2
    folder = output / "working" / cell.name
    shutil.rmtree(folder, ignore_errors=True)
    result = run_online(compose_online(dataset.name, cell.seed, overrides), dataset, folder)
    shutil.rmtree(folder)
    kept = {
        **asdict(cell),
        "stream": STREAMS[cell.data],
        "synthetic": result["data"]["synthetic"],
        "sampled_negatives": result["data"]["sampled_negatives"],
        "positives_left_out": result["data"]["positives_left_out"],
        **{name: result["prequential"][name] for name in ("events", "positives_share", *METRICS)},
        "ranker": result["prequential"].get("ranker"),
        "buckets": result["prequential"]["buckets"],
        "retrieval": _second_half(result["retrieval"]),
        "events_per_cpu_second": result["cost"]["events_per_cpu_second"],
        "parameters": result["parameters"],
    }
    temporary = output / f".{cell.name}.tmp"
    temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    temporary.replace(output / cell.name)


def _planted(cell: Cell, output: Path) -> Any:
    from recascade.data.dataset import Dataset
    from recascade_cs3.planted import planted_stream

    folder = output / "data" / f"{cell.data}-{cell.seed}"
    if folder.exists():
        return Dataset.open(folder)
    preset = "sparse" if "sparse" in cell.data else "dense"
    return planted_stream(folder, preset=preset, drift=cell.data.endswith("drift"), seed=cell.seed)


def _events(dataset: Any, overrides: dict[str, Any]) -> int:
    from recascade.data.home import home
    from recascade.data.stream_preparation import prepare_stream, read_stream_facts
    from recascade_cs3.online import compose_online

    stream = {key: value for key, value in overrides.items() if key.startswith("stream.")}
    source = prepare_stream(dataset, compose_online("", 0, stream).stream, home() / "streams")
    return int(read_stream_facts(source)["events"])


def _second_half(probes: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the probes of the second half that have a value, weighted by their positives."""
    late = [probe for probe in probes[len(probes) // 2 :] if "ndcg@10" in probe]
    names = {name for probe in late for name in probe} - {"offset", "positives", "candidates"}
    means = {}
    for name in sorted(names):
        known = [probe for probe in late if name in probe]
        means[name] = float(np.average([p[name] for p in known], weights=[p["positives"] for p in known]))
    return means


def refuse_other_streams(data: str, output: Path) -> None:
    """Stop where a finished cell was measured on another stream: one table must not mix two tests."""
    for path in sorted(output.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if (found["data"], found["stream"]) != (data, STREAMS[data]):
            raise SystemExit(f"{path} was measured on another stream ({found['stream']}); choose another --output.")


def print_tables(output: Path, metric: str) -> None:
    """Mean of the metric per cell, and its paired difference from the base with standard error and p-value."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("*.json"))]
    by_cell: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for result in found:
        key = (result["identity"], result["backbone"], result["variant"])
        by_cell.setdefault(key, {})[result["seed"]] = result
    columns = ("user id", "backbone", "variant", "seeds", "AUC", "Δ base ± s.e.", "p", "GAUC", "LogLoss", "NDCG@10")
    columns = (*columns, "τ", "ranker", "events/s")
    print("\n| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    for (identity, backbone, variant), runs in sorted(by_cell.items(), key=_order):
        base = by_cell.get((identity, backbone, "base"), {})
        paired = sorted(runs.keys() & base.keys()) if variant != "base" else []
        difference = "" if len(paired) < 2 else _difference([runs[s][metric] - base[s][metric] for s in paired])
        values = list(runs.values())
        ranker = [run["ranker"]["auc"] for run in values if run["ranker"]]
        print(
            f"| {identity} | {backbone} | {variant} | {len(runs)} | {_mean(values, 'auc')} | {difference or '|'} "
            f"| {_mean(values, 'gauc')} | {_mean(values, 'log_loss')} "
            f"| {_mean([run['retrieval'] for run in values], 'ndcg@10')} "
            f"| {_mean([run['retrieval'] for run in values], 'kendall_tau', 3)} "
            f"| {f'{np.mean(ranker):.4f}' if ranker else ''} "
            f"| {np.median([run['events_per_cpu_second'] for run in values]):,.0f} |"
        )


def print_differences(output: Path, metric: str) -> None:
    """One row per backbone: the base's mean, and each variant's paired difference ± standard error (* p < 0.05)."""
    runs: dict[tuple[str, str, str], dict[int, float]] = {}
    for path in sorted(output.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        runs.setdefault((result["identity"], result["backbone"], result["variant"]), {})[result["seed"]] = result[
            metric
        ]
    columns = ("user id", "backbone", "seeds", f"base {metric}", *VARIANTS[1:])
    print("\n| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    for identity, backbone in product(("with", WITHOUT), BACKBONES):
        base = runs.get((identity, backbone, "base"), {})
        cells = []
        for variant in VARIANTS[1:]:
            found = runs.get((identity, backbone, variant), {})
            differences = [found[seed] - base[seed] for seed in sorted(found.keys() & base.keys())]
            cells.append(_short_difference(differences))
        if base:
            print(
                f"| {identity} | {backbone} | {len(base)} | {np.mean(list(base.values())):.4f} | {' | '.join(cells)} |"
            )


def _short_difference(differences: list[float]) -> str:
    if len(differences) < 2:
        return f"{differences[0]:+.4f}" if differences else ""
    star = "*" if stats.ttest_1samp(differences, 0).pvalue < 0.05 else ""
    return f"{np.mean(differences):+.4f} ± {stats.sem(differences):.4f}{star}"


def _order(entry: tuple[tuple[str, str, str], Any]) -> tuple[Any, ...]:
    (identity, backbone, variant), _ = entry
    known = [*VARIANTS, *CONTROLS]
    return identity, BACKBONES.index(backbone), known.index(variant)


def _difference(differences: list[float]) -> str:
    mean, error = float(np.mean(differences)), float(stats.sem(differences))
    p_value = float(stats.ttest_1samp(differences, 0).pvalue) if error else float("nan")
    return f"{mean:+.4f} ± {error:.4f} | {p_value:.3g}"


def _mean(runs: list[dict[str, Any]], name: str, digits: int = 4) -> str:
    values = [run[name] for run in runs if run.get(name) is not None]
    return f"{np.mean(values):.{digits}f}" if values else ""


def main() -> None:
    """Compute what is missing, seed by seed, then print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=sorted(STREAMS))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--identities", nargs="+", choices=("with", WITHOUT), default=("with", WITHOUT))
    parser.add_argument("--controls", action="store_true", help="also the controls, on DSSM")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there, compute nothing")
    parser.add_argument("--metric", choices=METRICS, default="auc", help="of the differences")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(arguments.data, backbone, variant, identity, seed)
        for seed, identity, backbone, variant in product(
            range(arguments.seeds), arguments.identities, arguments.backbones, arguments.variants
        )
    ]
    if arguments.controls:
        cells += [
            Cell(arguments.data, "dssm", control, identity, seed)
            for seed, identity, control in product(range(arguments.seeds), arguments.identities, CONTROLS)
        ]
    refuse_other_streams(arguments.data, arguments.output)
    missing = [cell for cell in cells if not (arguments.output / cell.name).exists()]
    if missing and not arguments.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            waiting = [pool.apply_async(measure, (cell, arguments.output)) for cell in missing]
            for number, (cell, done) in enumerate(zip(missing, waiting, strict=True), 1):
                done.get()
                print(f"{number} of {len(missing)}: {cell.name}", flush=True)
    print_tables(arguments.output, arguments.metric)
    print_differences(arguments.output, arguments.metric)


if __name__ == "__main__":
    main()
