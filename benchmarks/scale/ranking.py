"""Full-ranking evaluation: the best items of a large catalogue for each request."""

from __future__ import annotations

import torch

from recascade.nn.top_k import top_k_inner_product
from scale.device import Device


def figures(device: Device, *, items: int, dimension: int, requests: int, k: int) -> dict[str, float]:
    """Requests per second, share of the float32 matrix-product rate, and bytes beyond vectors and lists."""
    torch.manual_seed(0)
    vectors, queries = device.tensor(items, dimension), device.tensor(requests, dimension)

    def rank() -> object:
        return top_k_inner_product(queries, vectors, k)

    memory, seconds = device.peak_bytes(rank), device.seconds(rank, 2)
    share = 2.0 * requests * items * dimension / seconds / device.matrix_rates["float32"]
    return {"requests_per_second": requests / seconds, "share": share, "bytes": float(memory)}
