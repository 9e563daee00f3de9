"""Import and 5-core of ten million generated events: CPU seconds and peak memory of each step, in a process of its own.

Run: python benchmarks/import_ten_million.py [--events 10000000]

The CSV file (about 400 MB) is made first and not counted. CPU seconds are those of all threads; peak memory is the
largest resident set of the process. Bars: under 60 CPU seconds and 2 GB for import and k-core together.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def generate(folder: Path, events: int) -> None:
    """Write ``log.csv`` with a column of each usual kind: identifiers, seconds, a rating."""
    import polars as pl

    from recascade.data.synthetic import markov_log

    dataset = markov_log(
        folder / "generated", users=events // 20, items=max(100, events // 100), mean_length=20.0, minimum_length=1
    )
    rating = (pl.int_range(pl.len()) % 5 + 1).alias("rating")
    # Logs come in the order of time, not of users.
    dataset.interactions().sort("timestamp").with_columns(rating).sink_csv(folder / "log.csv")


def import_log(folder: Path, events: int) -> None:
    """``recascade data import delimited``."""
    from recascade.data.adapters.registry import import_dataset

    dataset = import_dataset("delimited", folder / "log.csv", folder / "imported")
    print(f"  {dataset.facts['counts']}")


def five_core(folder: Path, events: int) -> None:
    """``recascade data filter --k-core 5``."""
    from recascade.data.dataset import Dataset
    from recascade.data.filters import write_filtered
    from recascade.data.split_config import SplitConfig

    config = SplitConfig(user_min_events=5, item_min_events=5)
    filtered = write_filtered(Dataset.open(folder / "imported"), config, folder / "filtered")
    print(f"  {filtered.facts['counts']}")


def split(folder: Path, events: int) -> None:
    """``recascade data split``: leave-one-out."""
    from recascade.data.dataset import Dataset
    from recascade.data.split import make_split
    from recascade.data.split_config import SplitConfig

    made = make_split(Dataset.open(folder / "filtered"), SplitConfig(), folder / "split")
    print(f"  {made.manifest.counts}")


def encode(folder: Path, events: int) -> None:
    """Identifiers to indices, as the first run on a split does."""
    from recascade.data.encode import encode as encode_split
    from recascade.data.split import Split

    encode_split(Split.open(folder / "split"))


def measure(step: Callable[[Path, int], None], folder: Path, events: int) -> None:
    """Run one step and print what it cost; called in a fresh process."""
    started = time.perf_counter()
    step(folder, events)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu, wall = usage.ru_utime + usage.ru_stime, time.perf_counter() - started
    print(f"{step.__name__:<12} CPU {cpu:6.1f} s   wall {wall:6.1f} s   peak memory {memory / 1e9:5.2f} GB", flush=True)


def main() -> None:
    """Run the steps one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    events = parser.parse_args().events
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        for step in (generate, import_log, five_core, split, encode):
            process = context.Process(target=measure, args=(step, Path(name), events))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
