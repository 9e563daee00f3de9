"""Small LazyAR decoders and requests for the tests of GR4AD."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade_gr4ad.lazy_ar import LazyAR

ITEMS, SIZES, BUCKETS = 60, (7, 5, 6), 4


def item_codes(items: int = ITEMS, seed: int = 0) -> Tensor:
    """Random ids, some of them shared."""
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (items,), generator=random) for size in SIZES], dim=1)


def decoder(*, dtype: torch.dtype = torch.float64, seed: int = 0, **settings: Any) -> LazyAR:
    """A decoder with random weights large enough that every input matters, in evaluation mode."""
    torch.manual_seed(seed)
    shape = {"dimension": 8, "layers": 4, "trunk_layers": 2, "heads": 2, "hidden": 16, "max_length": 12}
    model = LazyAR(item_codes(), SIZES, **{**shape, "value_buckets": BUCKETS, **settings}).to(dtype).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.6)
    return model


def requests_of(lengths: list[int], seed: int = 1) -> Context:
    """Requests with histories of these lengths."""
    random = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    items = torch.randint(ITEMS, (int(offsets[-1]),), generator=random)
    return Context(torch.arange(len(lengths)), items, torch.zeros_like(items), offsets)
