"""Print the rate of this machine's single-thread float32 matrix product, in operations per CPU second."""

from __future__ import annotations

import time

import torch

SIZE = 1024
SECONDS = 3.0


def matrix_product_rate() -> float:
    """The best of many products of two square matrices: what training could reach if it were nothing but products."""
    torch.set_num_threads(1)
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    best, end = float("inf"), time.process_time() + SECONDS
    while time.process_time() < end:
        start = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - start)
    return 2 * SIZE**3 / best


if __name__ == "__main__":
    print(matrix_product_rate())
