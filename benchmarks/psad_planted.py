"""PSAD where list effects exist by construction: planted lists with an oracle, fresh ones for each seed.

Every arm trains on the same lists with the same trainer; figures are paired list by list. A finished cell is never
computed again, so that the command can be stopped and repeated.

    python benchmarks/psad_planted.py --output runs/psad/planted
    python benchmarks/psad_planted.py --output runs/psad/planted --arms ablation --seeds 3
    python benchmarks/psad_planted.py --output runs/psad/planted --table
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from psad_laboratory import ARMS, COMPARED, PLANTED, Setting, common_trainer, measure, paired, read
from scipy import stats

GROUPS = {
    "main": (*COMPARED, "offline distillation"),
    "profile": ("without profile network", "teacher alone", "teacher alone, without profile network"),
    "blocks": tuple(name for name in ARMS if "prefix" in name),
    "ablation": (
        "pooled context",
        "transformer context",
        "no context",
        "without gate",
        "without dynamics",
        "without adaptive places",
        "separate profile networks",
        "distils first choice",
        "distils ranks",
        "distils list (ListMLE)",
        "distils pairs",
        "distils teacher-forced",
        "mutual",
    ),
}
Cells = Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]


def print_table(cells: Cells) -> None:
    """Means over lists and seeds, and the paired difference from PRM and from PSAD's student."""
    columns = ("arm", "seeds", "NDCG@5", "NDCG@10", "utility@5", "Δ PRM ± s.e.", "Δ PSAD-S ± s.e.", "fit CPU s")
    print("\n| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    for arm in ARMS:
        for network in ("", "S", "T"):
            record = cells.get((arm, network))
            if record is None:
                continue
            means = [_mean(record, metric) for metric in ("ndcg@5", "ndcg@10", "utility@5")]
            against = [
                _difference(paired(record, cells.get(other, {}), "ndcg@5", fresh_lists=True))
                for other in (("PRM", ""), ("PSAD", "S"))
            ]
            label = f"{arm}, {'student' if network == 'S' else 'teacher'}" if network else arm
            print(
                f"| {label} | {len(record)} | {' | '.join(f'{mean:.4f}' for mean in means)} | {' | '.join(against)} "
                f"| {_mean(record, 'fit_cpu_seconds'):.0f} |"
            )


def print_groups(cells: Cells) -> None:
    """NDCG@10 by thirds of the history's length."""
    print("\n| NDCG@10 by length of the history | shortest third | middle | longest |\n|-|-|-|-|")
    for arm, network in (("initial order", ""), ("PRM", ""), ("MIR", ""), ("PSAD", "S"), ("PSAD", "T")):
        record = cells.get((arm, network), {})
        if record:
            lengths = np.concatenate([np.array(record[seed]["history"]) for seed in sorted(record)])
            values = np.concatenate([np.array(record[seed]["ndcg@10"]) for seed in sorted(record)])
            parts = np.array_split(np.argsort(lengths, kind="stable"), 3)
            print(f"| {arm} {network} | {' | '.join(f'{values[part].mean():.4f}' for part in parts)} |")


def verdicts(cells: Cells) -> list[tuple[str, float, float, bool]]:
    """The requirements on planted lists: name, measured, bound, whether it holds; those without cells are left out."""

    def gap(arm: tuple[str, str], other: tuple[str, str], metric: str = "ndcg@5") -> float:
        """Of the means, on the seeds that both have."""
        own, base = cells.get(arm, {}), cells.get(other, {})
        seeds = own.keys() & base.keys()
        return _mean({seed: own[seed] for seed in seeds}, metric) - _mean({seed: base[seed] for seed in seeds}, metric)

    alone, initial = ("student alone", "S"), ("initial order", "")
    joint, plain = ("PSAD", "S"), ("joint, no distillation", "S")
    blocks = [(f"teacher alone, K={block}, self prefix", "T") for block in (1, 2, 5, 10)]
    spread = float(np.max([gap(one, other) for one in blocks for other in blocks]))
    found = [
        ("B1 student alone - initial order", gap(alone, initial), 0.10),
        ("B2 joint student - student alone", gap(plain, alone), -0.005),
        ("B2 teacher - student alone", gap(("joint, no distillation", "T"), alone), -0.005),
        ("B3 distilled student - joint student", gap(joint, plain), -0.012),
        ("B3 agreement with distillation - without", gap(joint, plain, "agreement"), 0.0),
        ("B4 student - without profile network", gap(joint, ("without profile network", "S")), 0.02),
        (
            "B4 teacher - without profile network",
            gap(("teacher alone", "T"), ("teacher alone, without profile network", "T")),
            0.02,
        ),
        ("B5 0.02 - spread over K, self prefix", 0.02 - spread, 0.0),
    ]
    found += [(f"student - {arm}", gap(joint, (arm, "")), 0.0) for arm in ("PRM", "SetRank", "MIR")]
    found += [(f"teacher - {arm}", gap(("PSAD", "T"), (arm, "")), 0.0) for arm in ("Seq2Slate", "NAR4Rec")]
    return [(name, got, least, got > least) for name, got, least in found if got == got]


def _mean(record: Mapping[int, Mapping[str, Any]], metric: str) -> float:
    return float(np.mean([np.mean(record[seed][metric]) for seed in record if metric in record[seed]] or [np.nan]))


def _difference(differences: np.ndarray) -> str:
    if not len(differences) or not differences.any():
        return ""
    star = "*" if stats.ttest_1samp(differences, 0).pvalue < 0.05 else ""
    return f"{differences.mean():+.4f} ± {stats.sem(differences):.4f}{star}"


def main() -> None:
    """Compute what is missing, seed by seed, then print tables and verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=sorted(GROUPS), default=["main", "profile", "blocks"])
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--table", action="store_true", help="print what is there, compute nothing")
    arguments = parser.parse_args()
    setting = Setting(PLANTED, {}, common_trainer(epochs=arguments.epochs, patience=arguments.patience))
    for seed in range(0 if arguments.table else arguments.seeds):
        for group in arguments.arms:
            for arm in GROUPS[group]:
                print(json.dumps({"cell": measure(setting, arm, seed, arguments.output).name}), flush=True)
    cells = read(arguments.output)
    print_table(cells)
    print_groups(cells)
    print("\n| requirement | measured | bound | holds |\n|-|-|-|-|")
    for name, got, least, holds in verdicts(cells):
        print(f"| {name} | {got:+.4f} | > {least:+.3f} | {'yes' if holds else 'NO'} |")


if __name__ == "__main__":
    main()
