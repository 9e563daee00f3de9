"""Time and error of tokenising 100k × 256 vectors into 3 × 256 codes, beside faiss's residual quantiser.

Run: OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/tokenizing.py  (needs faiss-cpu)

Both learn on a sample of 256 vectors per code; faiss encodes with a beam of 5 by default and, in another row, greedily
(beam 1), as recascade does. ``error`` is the share of the variance around the mean that the codes leave over. CPU
seconds of the whole process: fit, encode. The vectors are 2,000 Gaussian clusters with a falling spectrum,
seeded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from recascade.tokenizers.residual_kmeans import ResidualKMeans


def mixture(items: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """float32 ``[items, dimension]``."""
    generator = np.random.default_rng(seed)
    scales = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    centres = generator.standard_normal((2000, dimension), dtype=np.float32) * scales
    noise = generator.standard_normal((items, dimension), dtype=np.float32) * scales
    return centres[generator.integers(2000, size=items)] + 0.5 * noise


def with_recascade(vectors: NDArray[np.float32], sizes: list[int]) -> tuple[float, float, NDArray[np.float32]]:
    """CPU seconds of fit and encode, and the vectors that the codes stand for."""
    tokenizer = ResidualKMeans(sizes)
    fit = seconds(lambda: tokenizer.fit(vectors))
    encode = seconds(lambda: tokenizer.encode(vectors))
    return fit, encode, tokenizer.decode(tokenizer.encode(vectors))


def with_faiss(vectors: NDArray[np.float32], sizes: list[int], beam: int) -> tuple[float, float, NDArray[np.float32]]:
    """The same of ``faiss.ResidualQuantizer``."""
    quantizer = faiss.ResidualQuantizer(vectors.shape[1], len(sizes), int(np.log2(sizes[0])))
    quantizer.max_beam_size = beam
    sample = vectors[: 256 * sizes[0]]
    fit = seconds(lambda: quantizer.train(sample))
    encode = seconds(lambda: quantizer.compute_codes(vectors))
    return fit, encode, quantizer.decode(quantizer.compute_codes(vectors))


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print one row per quantiser and repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    vectors = mixture(options.items, options.dimension, seed=0)
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    sizes = [256, 256, 256]
    rows: dict[str, Callable[[], tuple[float, float, NDArray[np.float32]]]] = {
        "recascade": lambda: with_recascade(vectors, sizes),
        "faiss, beam 1": lambda: with_faiss(vectors, sizes, beam=1),
        "faiss, beam 5": lambda: with_faiss(vectors, sizes, beam=5),
    }
    print(f"{'':<16}{'fit s':>8}{'encode s':>10}{'error':>8}")
    for _ in range(options.repetitions):
        for name, work in rows.items():
            fit, encode, decoded = work()
            print(f"{name:<16}{fit:>8.2f}{encode:>10.2f}{np.square(vectors - decoded).sum() / spread:>8.4f}")


if __name__ == "__main__":
    main()
