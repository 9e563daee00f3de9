"""What untrained tables reach under leave-one-out with full ranking and seen items left out, per tie rule.

Run: RECASCADE_DATA=<folder of data sets> python benchmarks/counting_floors.py [amazon-beauty amazon-sports ml-100k]

Every row is measured under several numberings of the items (``--numberings``), because equal scores, which counting
models give in plenty, stand in the order of the vocabulary: mean and range are printed. Under ``ties=shuffle`` each
numbering comes with a shuffle of its own. ``same time`` and ``new time`` are the hit rates over targets that carry, or
do not carry, the time stamp of the event before them. CPU seconds are those of one fit and one evaluation.

The field survey's co-visit rows for comparison (HR@10 / NDCG@10): Beauty directed .0812 / .0499 (file), .0747 / .0451
(shuffle); symmetric .0758 / .0446, .0824 / .0503. Sports directed .0519 / .0314, .0509 / .0300; symmetric .0505 /
.0287, .0612 / .0362. MovieLens-100K: NDCG@10 .1116, direction and tie rule not given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from recascade.contracts.retriever import Retriever
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.co_visit import CoVisit
from recascade.models.item_knn import ItemKNN
from recascade.models.popularity import Popularity
from recascade.models.transition import Transition
from recascade.models.transition_similarity import TransitionSimilarity

CONFIG = EvaluationConfig(cutoffs=[10], metrics=["hit_rate", "ndcg"], exclude_seen=True)


def models(texts: pl.Series | None) -> dict[str, Callable[[EncodedSplit], Retriever]]:
    """Name → fit."""
    return {
        "popularity": Popularity.fit,
        "first-order transition": Transition.fit,
        "item-knn": ItemKNN.fit,
        "co-visit, directed": CoVisit.fit,
        "co-visit, symmetric": lambda data: CoVisit.fit(data, directed=False),
        "transition-similarity": lambda data: TransitionSimilarity.fit(data, texts),
        "transition-similarity, last two": lambda data: TransitionSimilarity.fit(data, texts, sources="last-two"),
    }


def texts_of(split: Split, data: EncodedSplit) -> pl.Series | None:
    """The items' texts in the order of the vocabulary."""
    items = split.items()
    if items is None:
        return None
    texts = items.select("item_id", "text").unique("item_id", keep="first").collect()
    return data.items.ids.to_frame("item_id").join(texts, on="item_id", how="left", maintain_order="left")["text"]


def measure(fit: Callable[[EncodedSplit], Retriever], data: EncodedSplit) -> list[float]:
    """HR@10, NDCG@10, HR@10 of same-time and new-time targets, CPU seconds."""
    start = time.process_time()
    result = evaluate(fit(data), data, "test", CONFIG)
    seconds = time.process_time() - start
    tied = [result.groups["tied"].get(name, {}).get("hit_rate@10", np.nan) for name in ("tied", "new time")]
    return [result.summary["hit_rate@10"], result.summary["ndcg@10"], *tied, seconds]


def table(name: str, ties: str, numberings: int, folder: Path) -> None:
    """Print the rows of one data set under one tie rule."""
    dataset = resolve(name)
    values: dict[str, list[list[float]]] = {}
    for seed in range(numberings):
        place = folder / f"{name}-{ties}-{seed if ties == 'shuffle' else 0}"
        split = Split.open(place) if place.exists() else make_split(dataset, SplitConfig(ties=ties, seed=seed), place)
        data = encode(split, seed=seed)
        for label, fit in models(texts_of(split, data)).items():
            values.setdefault(label, []).append(measure(fit, data))
    print(f"\n{name}, ties={ties}: {len(data.test)} users, {len(data.items)} items, {numberings} numberings")
    header = f"{'':34}{'HR@10':>8} {'range':>15} {'NDCG@10':>8} {'range':>15}"
    print(f"{header} {'same time':>10} {'new time':>10} {'CPU s':>7}")
    for label, rows in values.items():
        cells = np.array(rows)
        mean, low, high = np.nanmean(cells, axis=0), cells.min(axis=0), cells.max(axis=0)
        spans = [f"{low[column]:.4f}-{high[column]:.4f}" for column in (0, 1)]
        print(
            f"{label:34}{mean[0]:8.4f} {spans[0]:>15} {mean[1]:8.4f} {spans[1]:>15} "
            f"{mean[2]:10.4f} {mean[3]:10.4f} {low[4]:7.1f}"
        )


def main() -> None:
    """Parse the arguments and print a table per data set and tie rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["amazon-beauty", "amazon-sports", "ml-100k"])
    parser.add_argument("--numberings", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.data:
            for ties in ("file", "shuffle"):
                table(name, ties, arguments.numberings, Path(folder))


if __name__ == "__main__":
    main()
