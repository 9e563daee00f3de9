"""GR4AD's experiments on public data: ids, decoder, values, objectives, drift, beams, serving and scale.

    RECASCADE_DATA=<folder of data sets> python benchmarks/gr4ad_experiments.py e1 e2 --data amazon-beauty
    python benchmarks/gr4ad_experiments.py all --data synthetic-medium --small --output runs/gr4ad-small

Leave-one-out, full ranking, context of the last 20 items; the test part is asked once per cell. Money is invented (see
``recascade_gr4ad.ad_simulator``): figures of value compare arms of one experiment, nothing else. Costs are CPU seconds
of this process. Every trained cell is kept under ``--output`` and never trained again; tables are printed and written
as ``eN.json``. ``--small`` shrinks models, steps and requests until everything fits into ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from gr4ad_laboratory import Laboratory, Row, Scale
from gr4ad_ranking import drift, objectives
from gr4ad_replay import replay

from recascade.tokenizers.config import ConflictConfig, TokenizerConfig
from recascade.tokenizers.metrics import code_metrics
from recascade.tokenizers.tokenize import tokenize
from recascade_gr4ad.ad_simulator import CLONE_MARK
from recascade_gr4ad.lazy_ar import LazyAR, decoding_work

LAZY = {"model.values.source": "none", "model.values.buckets": 0, "model.values.user_weights": False}
BUSINESS_FIELDS = ["advertiser_id", "conversion_type", "item_id"]


def tokenizers(laboratory: Laboratory) -> Iterable[Row]:
    """E1: layouts of one space of codes, on a catalogue of which a tenth has clones that differ in business fields
    alone. ``separated`` is the share of clones whose id is not their original's."""
    first, middle, last = laboratory.sizes
    cube = round((first * middle * last) ** (1 / 3))
    layouts = {
        "RQ": TokenizerConfig(sizes=[cube] * 3),
        "MR": TokenizerConfig(sizes=[first, middle, last]),
        "UA-SID": TokenizerConfig(name="ua-sid", sizes=[first, middle, last], hash_keys=BUSINESS_FIELDS),
    }
    ads = laboratory.with_clones()
    names = ads.data.items.ids.to_list()
    clones = [name for name in names if name.endswith(CLONE_MARK)]
    for name, config in layouts.items():
        config.conflicts = ConflictConfig(policy="allow")
        for seed in laboratory.seeds:
            ids = tokenize(ads.data, ads.split, config, seed).ids
            metrics = code_metrics(ids.codes, ids.sizes)
            apart = [ids.code(clone) != ids.code(clone.removesuffix(CLONE_MARK)) for clone in clones]
            yield {
                "arm": name,
                "seed": seed,
                "compression": metrics.compression_ratio,
                "shared": metrics.shared_id_rate,
                "separated": float(np.mean(apart)),
            }


def decoder(laboratory: Laboratory) -> Iterable[Row]:
    """E2: the plain decoder against LazyAR by trunk layers and with or without multi-token prediction."""
    layers = laboratory.scale.layers
    plain = {**LAZY, "model.multi_token": 0.0}
    vanilla = {**plain, "model.trunk_layers": 0, "model.fusion": "add", "model.fuse_first": True}
    arms: dict[str, dict[str, Any]] = {"vanilla": vanilla}
    for trunk in range(1, layers):
        arms[f"K={trunk}"] = {**LAZY, "model.trunk_layers": trunk}
    usual = laboratory.scale.trunk_layers
    arms[f"K={usual} without MTP"] = {**plain, "model.trunk_layers": usual}
    for name, overrides in arms.items():
        for seed in laboratory.seeds:
            retriever = laboratory.train(f"e2-{name}", seed, overrides)
            yield {"arm": name, "seed": seed, **laboratory.measure(retriever), **laboratory.decoding_cost(retriever)}


def values(laboratory: Laboratory) -> Iterable[Row]:
    """E3: what the eCPM step and each weight add. ``value@10`` is the share of the held-out items' value that the lists
    of ten hold."""
    off = {"model.values.user_weights": False, "model.values.deep_weight": 1.0}
    arms: dict[str, dict[str, Any]] = {
        "without values": LAZY,
        "eCPM step": off,
        "+ user weights": {"model.values.deep_weight": 1.0},
        "+ behaviour weights": {},
        "ordered by value": {"model.values.gamma": 0.3},
    }
    for name, overrides in arms.items():
        for seed in laboratory.seeds:
            retriever = laboratory.train(f"e3-{name}", seed, overrides)
            yield {"arm": name, "seed": seed, **laboratory.measure(retriever), **laboratory.decoding_cost(retriever)}


def beams(laboratory: Laboratory) -> Iterable[Row]:
    """E6: widths per level on one trained model, scored at the final width (mirrors the paper's table 4). At ten places
    a narrow last level costs nothing by construction."""
    width = laboratory.scale.beams
    quarter, half = max(1, width // 4), width // 2
    grid = [
        (width, width, width),
        (quarter, width, width),
        (width, quarter, width),
        (width, width, quarter),
        (quarter, half, width),
    ]
    for seed in laboratory.seeds:
        retriever = laboratory.train(f"e2-K={laboratory.scale.trunk_layers}", seed, LAZY)
        model = retriever.generator
        assert isinstance(model, LazyAR)
        full = decoding_work(len(model.blocks), model.trunk_layers, 4, grid[0])
        for widths in grid:
            retriever.widths = widths
            work = decoding_work(len(model.blocks), model.trunk_layers, 4, widths)
            yield {
                "arm": "-".join(map(str, widths)),
                "seed": seed,
                **laboratory.measure(retriever, widths[-1], "final"),
                **laboratory.decoding_cost(retriever),
                "work with eCPM step": work / full,
            }


def scaling(laboratory: Laboratory) -> Iterable[Row]:
    """E8: widths of the model, and beams of the usual one."""
    usual = laboratory.scale.dimension
    for dimension in (usual // 2, usual, 3 * usual // 2, 2 * usual):
        for seed in laboratory.seeds:
            size = {"model.dimension": dimension, "model.hidden": 4 * dimension}
            retriever = laboratory.train(f"e8-{dimension}", seed, {**LAZY, **size})
            yield {"arm": f"d={dimension}", "seed": seed, **laboratory.measure(retriever)}
    for seed in laboratory.seeds:
        retriever = laboratory.train(f"e8-{usual}", seed, LAZY)
        for width in (16, 32, 64, 128, 256):
            retriever.widths = (width,) * 3
            cost = laboratory.decoding_cost(retriever)
            yield {"arm": f"beam {width}", "seed": seed, **laboratory.measure(retriever), **cost}


EXPERIMENTS: dict[str, Callable[[Laboratory], Iterable[Row]]] = {
    "e1": tokenizers,
    "e2": decoder,
    "e3": values,
    "e4": objectives,
    "e5": drift,
    "e6": beams,
    "e7": replay,
    "e8": scaling,
}


def show(rows: list[Row]) -> None:
    """Means over seeds, one line per arm, with the standard deviation where there are several."""
    columns = [name for name in rows[0] if name not in ("arm", "seed")]
    print(f"{'':<28}" + "".join(f"{name:>22}" for name in columns))
    for arm in dict.fromkeys(str(row["arm"]) for row in rows):
        cells = []
        for name in columns:
            found = np.array([float(row[name]) for row in rows if row["arm"] == arm])
            spread = f" ±{found.std(ddof=1):.4f}" if len(found) > 1 else ""
            cells.append(f"{found.mean():.4f}{spread}")
        print(f"{arm:<28}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


def main() -> None:
    """Run the experiments that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", choices=[*EXPERIMENTS, "all"])
    parser.add_argument("--data", default="synthetic-medium")
    parser.add_argument("--output", type=Path, default=Path("runs/gr4ad"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    scale = Scale.small() if options.small else Scale()
    laboratory = Laboratory(options.data, options.output, range(options.seeds), scale)
    chosen = EXPERIMENTS if "all" in options.experiments else options.experiments
    for name in chosen:
        experiment = EXPERIMENTS[name]
        print(f"\n{experiment.__doc__}\n")
        rows = list(experiment(laboratory))
        show(rows)
        record = {"data": options.data, "synthetic_values": True, "scale": asdict(scale), "rows": rows}
        (options.output / f"{name}.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
