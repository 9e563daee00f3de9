"""PSAD and all other re-rankers on real lists: NDCG with intervals, paired over lists, and by activity.

Lists of a log of events are what an earlier stage would have sent; judged lists have features only. Every arm trains on
the same lists with the same trainer; a list's figures are averaged over seeds before they are compared. With each seed
the folds of judged lists change roles. A finished cell is never computed again, so that the command can be stopped and
repeated.

    python benchmarks/psad_quality.py ml-1m --output runs/psad/ml-1m
    python benchmarks/psad_quality.py mq2007 --output runs/psad/mq2007 --seeds 5
    python benchmarks/psad_quality.py mq2007 --output runs/psad/mq2007 --table
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from psad_laboratory import COMPARED, Setting, common_trainer, mean_by_list, measure, paired, read

from recascade.evaluation.significance import compare_paired

# How lists come about: what is held out makes them, and an earlier stage that was trained on the rest.
LOGS: dict[str, dict[str, Any]] = {
    "ml-1m": {"lists.most_lists": 4000, "lists.exclude_seen": True},
    "completejourney": {"split.ties": "group", "lists.most_lists": 4000},
    "webis-ltr": {},
    "mq2007": {},
}
# Epochs at most, patience and lists in a batch: with 32 training lists, a usual batch would be one step per epoch.
PACE = {"ml-1m": (14, 4, 128), "completejourney": (14, 4, 128), "webis-ltr": (40, 10, 8), "mq2007": (20, 5, 64)}


def print_table(output: Path, cutoff: int) -> None:
    """Mean NDCG, and the paired difference from PRM with its 95 % interval and p-value."""
    cells, metric = read(output), f"ndcg@{cutoff}"
    reference = cells.get(("PRM", ""), {})
    columns = ("arm", "seeds", "lists", f"NDCG@{cutoff}", "Δ PRM", "95 % interval", "p", "fit CPU s")
    print("\n| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    for arm in COMPARED:
        for network in ("", "S", "T"):
            record = cells.get((arm, network), {})
            if not record:
                continue
            values = list(mean_by_list(record, metric).values())
            seconds = np.mean([np.sum(each["fit_cpu_seconds"]) for each in record.values()])
            label = f"{arm}, {'student' if network == 'S' else 'teacher'}" if network else arm
            differences = paired(record, reference, metric, fresh_lists=False)
            compared = " | | "
            if differences.any():
                found = compare_paired(differences, np.zeros_like(differences))
                compared = f"{found.difference:+.4f} | {found.low:+.4f} to {found.high:+.4f} | {found.p_value:.3g}"
            print(f"| {label} | {len(record)} | {len(values)} | {np.mean(values):.4f} | {compared} | {seconds:.0f} |")


def print_groups(output: Path, cutoff: int) -> None:
    """NDCG by thirds of the history's length, where lists have histories of different lengths."""
    cells, metric = read(output), f"ndcg@{cutoff}"
    records = [record for seeds in cells.values() for record in seeds.values()]
    if all(len(set(record["history"])) == 1 for record in records):
        return
    print(f"\n| NDCG@{cutoff} by length of the history | shortest third | middle | longest |\n|-|-|-|-|")
    for arm, network in (("initial order", ""), ("PRM", ""), ("MIR", ""), ("PSAD", "S"), ("PSAD", "T")):
        record = cells.get((arm, network), {})
        if record:
            lengths = np.array(next(iter(record.values()))["history"])
            values = np.mean([np.array(each[metric], dtype=float) for each in record.values()], axis=0)
            parts = np.array_split(np.argsort(lengths, kind="stable"), 3)
            print(f"| {arm} {network} | {' | '.join(f'{np.nanmean(values[part]):.4f}' for part in parts)} |")


def main() -> None:
    """Compute what is missing, seed by seed, then print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=sorted(LOGS))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=COMPARED, default=COMPARED)
    parser.add_argument("--cutoff", type=int, choices=(5, 10), default=10)
    parser.add_argument("--table", action="store_true", help="print what is there, compute nothing")
    arguments = parser.parse_args()
    epochs, patience, batch = PACE[arguments.data]
    trainer = common_trainer(epochs=epochs, patience=patience, batch=batch)
    setting = Setting(arguments.data, LOGS[arguments.data], trainer)
    for seed in range(0 if arguments.table else arguments.seeds):
        for arm in arguments.arms:
            print(measure(setting, arm, seed, arguments.output).name, flush=True)
    print_table(arguments.output, arguments.cutoff)
    print_groups(arguments.output, arguments.cutoff)


if __name__ == "__main__":
    main()
