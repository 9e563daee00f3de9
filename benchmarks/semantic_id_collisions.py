"""Collisions of residual k-means, of its multi-resolution form and of UA-SID in equal spaces of codes.

Run: RECASCADE_DATA=<folder of data sets> python benchmarks/semantic_id_collisions.py amazon-beauty amazon-sports ml-1m

GR4AD's table 2 orders them so on its own catalogue: RQ-KMeans collides most, larger codebooks first (MR) less, a hashed
last level (UA-SID) least. Means over ``--seeds``. ``compression`` is items / ids, ``shared`` 1 − one-to-one ids / ids,
``lost`` 1 − ids / items, ``error`` the variance that codes leave over (a hashed level explains none of it). Vectors:
TF-IDF and SVD of the catalogue's texts, of training items; with ``--epochs`` above 0 they are tuned by Swing partners.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import numpy as np

from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.data.split_config import SplitConfig
from recascade.tokenizers.config import ClusteringConfig, ConflictConfig, ContrastiveConfig, TokenizerConfig
from recascade.tokenizers.metrics import code_metrics, reconstruction_error
from recascade.tokenizers.tokenize import tokenize


@dataclass(frozen=True)
class Layout:
    """One row of the table."""

    name: str
    sizes: list[int]
    balanced: bool = False
    tokenizer: str = field(default="residual-k-means")


def layouts(cube: int) -> list[Layout]:
    """All rows of a space of ``cube``³ codes."""
    equal, falling = [cube] * 3, [4 * cube, cube, cube // 4]
    text = "-".join(map(str, falling))
    return [
        Layout(f"RQ {cube}³", equal),
        Layout(f"RQ {cube}³ balanced", equal, balanced=True),
        Layout(f"MR {text}", falling),
        Layout(f"MR {text} balanced", falling, balanced=True),
        Layout(f"UA-SID {text}*", falling, balanced=True, tokenizer="ua-sid"),
    ]


def measure(data: EncodedSplit, split: Split, layout: Layout, epochs: int, seed: int) -> list[float]:
    """Compression, shared, lost, error."""
    config = TokenizerConfig(
        name=layout.tokenizer,
        sizes=layout.sizes,
        clustering=ClusteringConfig(balanced=layout.balanced),
        contrastive=ContrastiveConfig(epochs=epochs),
        conflicts=ConflictConfig(policy="allow"),
    )
    tokenized = tokenize(data, split, config, seed)
    ids = tokenized.ids
    metrics = code_metrics(ids.codes, ids.sizes)
    vectors = ids.tokenizer.tuned(tokenized.content.vectors)
    error = reconstruction_error(vectors, ids.tokenizer.decode(ids.codes))
    return [metrics.compression_ratio, metrics.shared_id_rate, metrics.lost_item_rate, error]


def main() -> None:
    """Print one table per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0)
    options = parser.parse_args()
    for name in options.data:
        split = cached_split(resolve(name), SplitConfig())
        data = encode(split)
        print(f"\n{name}, {len(data.items):,} items\n{'':<28}{'compression':>12}{'shared':>9}{'lost':>9}{'error':>8}")
        for layout in [row for cube in (64, 256) for row in layouts(cube)]:
            rows = [measure(data, split, layout, options.epochs, seed) for seed in range(options.seeds)]
            compression, shared, lost, error = np.mean(rows, axis=0)
            print(f"{layout.name:<28}{compression:>12.4f}{shared:>9.4f}{lost:>9.4f}{error:>8.4f}", flush=True)


if __name__ == "__main__":
    main()
