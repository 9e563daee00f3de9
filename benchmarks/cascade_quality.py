"""Is the best cascade better than the best single stage? Singles and cascades on one split, paired over users.

Cells are runs of the benchmark like any other: finished ones are kept, an interrupted one goes on, and ``recascade
report`` makes a page of the folder. Stages that several cells share are trained once. Both winners are chosen on the
validation part; the test part decides between them.

Run: python benchmarks/cascade_quality.py completejourney [--seeds 3] [--output runs/cascade] [--only 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recascade.bench.config import RunConfig
from recascade.bench.registry import find_method
from recascade.bench.report.board import rank
from recascade.bench.report.comparison import Difference, compare, user_means
from recascade.bench.report.entry import Entry, gather
from recascade.bench.report.record import records
from recascade.bench.runner import Event, LocalRunner
from recascade.bench.suite import configs_of
from recascade.bench.sweep import compute, lay_out

METRICS = ("ndcg@10", "recall@10")

Settings = Mapping[str, Any]
Cell = tuple[str, Settings]


def cascade(*stages: str, **settings: Any) -> Cell:
    """A cell of retriever, ranker and re-ranker."""
    slots = dict(zip(("retriever", "ranker", "reranker"), stages, strict=True))
    return "cascade", {f"model.{key}": value for key, value in {**slots, **settings}.items()}


BASKETS: Settings = {
    "split.protocol": "last-basket",
    "split.ties": "group",
    "split.catalogue": "training",
    "split.item_min_events": 50,
}
BASKET_SASREC = {
    "windows": "chunks",
    "max_length": 100,
    "blocks": 1,
    "trainer.max_epochs": 5,
    "trainer.learning_rate": 0.002,
    "trainer.batch_sequences": 8,
    "trainer.patience": 0,
}
LISTS = ["trainer.max_epochs=6", "trainer.batch_sequences=64", "trainer.learning_rate=0.002"]

RATINGS: Settings = {"split.protocol": "leave-one-out", "split.ties": "shuffle", "evaluation.exclude_seen": True}
RATING_SASREC = {"max_length": 100, "trainer.max_epochs": 8, "trainer.patience": 0, "trainer.learning_rate": 0.002}


def alone(method: str, settings: Settings) -> Cell:
    """A cell of one method; keys without a section are its own."""
    return method, {key if key.startswith("trainer.") else f"model.{key}": value for key, value in settings.items()}


def typed(settings: Settings) -> list[str]:
    """Settings as a stage of a cascade takes them."""
    return [f"{key}={value}" for key, value in settings.items()]


# What all cells of a data set share, and the cells: methods alone, then cascades of them.
PLANS: Mapping[str, tuple[Settings, Sequence[Cell]]] = {
    "completejourney": (
        {**BASKETS, "trainer.accelerator": "cpu", "trainer.tensorboard": False},
        [
            ("popularity", {}),
            ("personal-frequency", {}),
            ("item-knn", {}),
            cascade("personal-frequency", "none", "prm", reranked=50, most_lists=4000, reranker_settings=LISTS),
            cascade("personal-frequency", "none", "psad", reranked=50, most_lists=4000, reranker_settings=LISTS),
            alone("sasrec", BASKET_SASREC),
            cascade(
                "personal-frequency",
                "sasrec",
                "none",
                ranker_settings=typed(BASKET_SASREC),
            ),
            cascade(
                "personal-frequency",
                "sasrec",
                "prm",
                reranked=50,
                ranker_settings=typed(BASKET_SASREC),
                most_lists=4000,
                reranker_settings=LISTS,
            ),
        ],
    ),
    "ml-1m": (
        {**RATINGS, "trainer.accelerator": "cpu", "trainer.tensorboard": False},
        [
            ("popularity", {}),
            ("item-knn", {}),
            ("co-visit", {}),
            cascade("co-visit", "none", "prm", reranked=100, history=50, most_lists=4000, reranker_settings=LISTS),
            alone("sasrec", RATING_SASREC),
            cascade(
                "co-visit",
                "sasrec",
                "none",
                ranker_settings=typed(RATING_SASREC),
            ),
            cascade(
                "co-visit",
                "sasrec",
                "prm",
                reranked=100,
                ranker_settings=typed(RATING_SASREC),
                most_lists=4000,
                reranker_settings=LISTS,
            ),
        ],
    ),
}


def configs(data: str, seeds: int, only: int | None) -> list[RunConfig]:
    """All runs of a data set's plan, the first ``only`` cells."""
    common, cells = PLANS[data]
    found = []
    for method, settings in cells[:only]:
        trained = find_method(method).trained
        shared = {key: value for key, value in common.items() if trained or not key.startswith("trainer.")}
        found += configs_of(method, data, "default", seeds, {**shared, **settings})
    return found


def tell(event: Event) -> None:
    """One line per event."""
    print(event.kind, *event.directory.parts[-3:], event.problem, flush=True)


def main() -> None:
    """Compute what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=PLANS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/cascade"))
    parser.add_argument("--only", type=int, help="the first cells of the plan alone")
    arguments = parser.parse_args()
    plan = lay_out(configs(arguments.data, arguments.seeds, arguments.only), arguments.output, print)
    compute(plan, LocalRunner(processes=1, threads=1), tell, lambda: None)
    finished, failed, _ = records(list(plan.finished_runs))
    for run in failed:
        print("failed:", run.directory, run.result["error"])
    entries = gather(finished)
    show(entries)


def show(entries: Sequence[Entry]) -> None:
    """All entries, best on validation first, and the two winners against each other."""
    metric = METRICS[0]
    ordered = rank(entries, metric, part="validation")
    singles = [entry for entry in ordered if entry.method != "cascade"]
    cascades = [entry for entry in ordered if entry.method == "cascade"]
    means = {entry.key: user_means(entry.runs, METRICS) for entry in entries}
    others = [entry for entry in ordered if entry is not singles[0]]
    differences = dict(
        zip(
            (entry.key for entry in others),
            compare([means[entry.key] for entry in others], means[singles[0].key]),
            strict=True,
        )
    )
    print(f"\nDifferences are to {singles[0].name}, the single stage that is best on validation; p after Holm.\n")
    print("| stages | seeds | validation | NDCG@10 | Recall@10 | difference in NDCG@10 | p | fit CPU s | ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for entry in ordered:
        values = [entry.value(metric, "validation"), *(entry.value(name) for name in METRICS)]
        numbers = " | ".join("" if value is None else f"{value.mean:.4f}" for value in values)
        found = differences.get(entry.key)
        compared = "| " if found is None else difference_text(found[metric])
        costs = " | ".join(
            f"{entry.cost[name].mean:.1f}" if name in entry.cost else "" for name in ("fit_cpu_seconds", "latency_p50")
        )
        print(f"| {stages(entry)} | {len(entry.runs)} | {numbers} | {compared} | {costs} |")
    if cascades:
        best = difference_text(differences[cascades[0].key][metric])
        print(
            f"\nBest cascade on validation: {stages(cascades[0])}; to the best single stage on the test part: {best}."
        )


def difference_text(found: Difference) -> str:
    """Mean, interval and p-value, as two cells of a table."""
    return f"{found.mean:+.4f} ({found.low:+.4f} … {found.high:+.4f}) | {found.p_value:.2g}"


def stages(entry: Entry) -> str:
    """What stands in line."""
    if entry.method != "cascade":
        return entry.name
    model = entry.runs[0].config["model"]
    return " → ".join(model[slot] for slot in ("retriever", "ranker", "reranker") if model[slot] != "none")


if __name__ == "__main__":
    main()
