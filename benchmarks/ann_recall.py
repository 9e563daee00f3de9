"""Recall@100 against exact search, CPU time of one search, of building, and of an upsert, of each item index.

Run: python benchmarks/ann_recall.py [--items 100000] [--dimensions 16 64]

Random directions are the hardest case there is for approximate search; the clustered vectors have 300 centres. Queries
to tune with and queries to measure with are different ones. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recascade.serving.faiss_index import FaissIndex
from recascade.serving.item_index import FlatIndex, ItemIndex, recall
from recascade.serving.usearch_index import UsearchIndex

ENGINES: dict[str, Callable[[int], ItemIndex]] = {"flat": FlatIndex, "faiss": FaissIndex, "usearch": UsearchIndex}
LENGTH = 100
QUERIES = 300


def vectors(kind: str, count: int, dimension: int, seed: int) -> Tensor:
    """Unit vectors: ``random`` directions, or ``clustered`` around 300 centres that do not depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, dimension, generator=generator)
    if kind == "clustered":
        centres = torch.randn(300, dimension, generator=torch.Generator().manual_seed(0))
        points = centres[torch.randint(300, (count,), generator=generator)] + 0.4 * points
    return normalize(points, dim=1)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(engine: str, kind: str, items: int, dimension: int) -> str:
    """One line of the table."""
    index = ENGINES[engine](dimension)
    content = vectors(kind, items, dimension, 1)
    tuning, asked = vectors(kind, QUERIES, dimension, 2), vectors(kind, QUERIES, dimension, 3)
    exact = FlatIndex(dimension)
    exact.upsert(torch.arange(items), content)
    built = seconds(lambda: index.upsert(torch.arange(items), content))
    tuned = seconds(lambda: index.tune(tuning))
    reached = recall(index.search(asked, LENGTH).items, exact.search(asked, LENGTH).items)
    searches = sorted(seconds(lambda query=query: index.search(query[None], LENGTH)) for query in asked)
    changed = torch.randperm(items)[:1000]
    upsert = seconds(lambda: index.upsert(changed, content[changed])) / len(changed)
    middle, late = searches[len(searches) // 2], searches[int(len(searches) * 0.99)]
    return (
        f"{engine:8} {kind:10} {dimension:4} {reached:8.4f} {middle * 1e6:8.0f} {late * 1e6:8.0f} "
        f"{built:8.1f} {tuned:8.1f} {upsert * 1e6:8.1f}"
    )


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'index':8} {'vectors':10} {'d':>4} {'recall':>8} {'p50 µs':>8} {'p99 µs':>8} ", end="")
    print(f"{'build s':>8} {'tune s':>8} {'upsert µs':>8}")
    for dimension in arguments.dimensions:
        for kind in ("random", "clustered"):
            for engine in arguments.engines:
                print(row(engine, kind, arguments.items, dimension), flush=True)


if __name__ == "__main__":
    main()
