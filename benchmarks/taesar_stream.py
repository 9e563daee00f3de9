"""Regeneration of a large log: time by stage and peak memory, on events that are generated.

The log has four domains with a quarter of the items each; a user walks around small topics, and popularity is skewed.
The full size is 200,000 users of 40 events and 50,000 items. The mixed model trains an epoch with sampled softmax, each
expert one epoch over its domain, and every event of another domain is decoded against the whole catalogue.

    python benchmarks/taesar_stream.py --users 20000 --threads 2
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.training.config import LossConfig, TrainerConfig
from recascade_taesar.config import RegeneratorConfig, TaesarConfig
from recascade_taesar.models import train_models
from recascade_taesar.regenerate import regenerate

DOMAINS = ("books", "electronics", "sports", "tools")
USERS_AT_A_TIME = 20_000


def generate(folder: Path, users: int, length: int, items: int) -> Dataset:
    """Write the log in pieces of users, so that its size does not matter."""
    per_domain, topics = items // len(DOMAINS), 50
    names = pl.Series([f"{domain}-{number}" for domain in DOMAINS for number in range(per_domain)])
    folder.mkdir(parents=True)
    pieces = []
    for number, start in enumerate(range(0, users, USERS_AT_A_TIME)):
        random = np.random.default_rng(number)
        count = min(USERS_AT_A_TIME, users - start)
        topic = random.integers(0, topics, (count, 1))
        domains = random.integers(0, len(DOMAINS), (count, length))
        within = (per_domain // topics * random.random((count, length)) ** 3).astype(np.int64)
        codes = domains * per_domain + (topic * (per_domain // topics) + within) % per_domain
        piece = pl.DataFrame(
            {
                "user_id": np.repeat(np.arange(start, start + count), length),
                "item_id": names.gather(codes.ravel()),
                "timestamp": np.tile(1_700_000_000 + 3600 * np.arange(length), count),
                "domain": pl.Series(DOMAINS).gather(domains.ravel()),
            }
        ).with_columns(pl.col("user_id").cast(pl.String).str.zfill(8))
        pieces.append(folder / f"piece-{number}.parquet")
        piece.write_parquet(pieces[-1])
    pl.scan_parquet(pieces).sink_parquet(folder / "interactions.parquet")
    for path in pieces:
        path.unlink()
    return Dataset.open(folder)


def main() -> None:
    """Generate, train, regenerate, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = RegeneratorConfig(
        max_length=arguments.length,
        epochs=1,
        patience=0,
        adaptation_epochs=1,
        loss=LossConfig(name="sampled_softmax", negatives=1024),
    )
    trainer = TrainerConfig(progress=False, tensorboard=False)
    times = [(time.perf_counter(), time.process_time())]
    stages = ("generate", "split", "models", "regenerate")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset = generate(folder / "log", arguments.users, arguments.length, arguments.items)
        times.append((time.perf_counter(), time.process_time()))
        split = make_split(dataset, SplitConfig(), folder / "split")
        data = encode(split)
        times.append((time.perf_counter(), time.process_time()))
        train_models(data, settings, folder / "models", 0, trainer)
        times.append((time.perf_counter(), time.process_time()))
        config = TaesarConfig(regenerator=settings, models=str(folder / "models"))
        made = regenerate(split, data, config, {"books": folder / "made"}, folder / "work", seed=0, trainer=trainer)
        times.append((time.perf_counter(), time.process_time()))
        print(f"{arguments.users:,} users of {arguments.length} events, {len(data.items):,} items trained on")
        print(made["books"].facts["counts"])
    print("| stage | wall s | CPU s |\n| --- | --- | --- |")
    for name, before, after in zip(stages, times[:-1], times[1:], strict=True):
        print(f"| {name} | {after[0] - before[0]:.1f} | {after[1] - before[1]:.1f} |")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
