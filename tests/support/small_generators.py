"""Small generators and prompts for the tests of what post-trains them."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch
from recascade.models.code_generator import CodeGenerator
from recascade.models.decoder_only import DecoderOnly
from recascade.models.tiger import TIGER

ITEMS, SIZES, LENGTH = 40, (4, 5, 6), 8
NAMES = ("tiger", "decoder-only")
_SHAPE = {"dimension": 8, "heads": 2, "hidden": 16, "max_length": LENGTH, "dropout": 0.2}


def item_codes() -> Tensor:
    """One id per item, drawn among all combinations."""
    chosen = torch.randperm(4 * 5 * 6, generator=torch.Generator().manual_seed(0))[:ITEMS]
    return torch.stack([chosen // 30, chosen // 6 % 5, chosen % 6], dim=1)


def small_generator(name: str = "decoder-only", *, dtype: torch.dtype = torch.float64, seed: int = 0) -> CodeGenerator:
    """Random weights large enough that every input matters; in training mode, with dropout."""
    torch.manual_seed(seed)
    model: CodeGenerator
    if name == "tiger":
        model = TIGER(item_codes(), SIZES, encoder_blocks=1, decoder_blocks=1, head_width=None, **_SHAPE)
    else:
        model = DecoderOnly(item_codes(), SIZES, blocks=2, **_SHAPE)
    for parameter_name, parameter in model.named_parameters():
        if "norm" not in parameter_name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)


def prompts(count: int = 6, seed: int = 1, *, baskets: bool = False) -> NextItemBatch:
    """Prompts with histories of 1 to 8 events; with several targets each under ``baskets``."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LENGTH + 1, (count,), generator=random)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    items = torch.randint(ITEMS, (int(offsets[-1]),), generator=random)
    context = Context(torch.arange(count), items, torch.zeros_like(items), offsets)
    owners = torch.arange(count).repeat_interleave(1 + torch.arange(count) % 3) if baskets else None
    targets = torch.randint(ITEMS, (count if owners is None else len(owners),), generator=random)
    return NextItemBatch(context, offsets[1:] - 1, targets, owners)
