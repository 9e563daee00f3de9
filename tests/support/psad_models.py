"""Random lists and small networks for the tests of PSAD."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.settings import compose_sections
from recascade_psad.config import PSADConfig
from recascade_psad.model import PSADModel

SCHEMA = RerankingSchema(
    item_count=40, field_sizes=(5, 3), feature_count=4, profile_sizes=(4,), candidates=12, history=6
)


def psad_config(**overrides: Any) -> PSADConfig:
    """Small sizes; keys with a double underscore for the dot."""
    sizes = {"dimension": 16, "hidden": 32, "embedding": 8, "dropout": 0.0}
    dotted = {f"model.{key.replace('__', '.')}": value for key, value in (sizes | overrides).items()}
    config: PSADConfig = compose_sections({"model": PSADConfig}, dotted)["model"]
    return config


def psad_model(seed: int = 0, *, scrambled: bool = True, **overrides: Any) -> PSADModel:
    """A network with random weights; scrambled, also those that begin as zeros."""
    torch.manual_seed(seed)
    model = PSADModel(psad_config(**overrides), SCHEMA)
    if scrambled:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def random_lists(lengths: list[int], seed: int = 0, *, width: int = 0, clicks: int = 2) -> RerankingBatch:
    """Lists of these lengths, padded to ``width``; the first ``clicks`` of a random order are clicked."""
    generator = torch.Generator().manual_seed(seed)
    count, candidates, events = len(lengths), max(width, *lengths), SCHEMA.history
    mask = torch.arange(candidates) < torch.tensor(lengths)[:, None]
    history_mask = torch.arange(events) < torch.randint(0, events + 1, (count, 1), generator=generator)

    def codes(size: int, *shape: int) -> Tensor:
        return torch.randint(0, size, shape, generator=generator)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    keys = numbers(count, candidates).masked_fill(~mask, -9.0)
    labels = (keys.argsort(1, descending=True).argsort(1) < clicks).float() * mask
    sizes = SCHEMA.field_sizes
    return RerankingBatch(
        lists=torch.arange(count),
        candidate_items=codes(40, count, candidates).masked_fill(~mask, -1),
        candidate_fields=torch.stack([codes(size, count, candidates) for size in sizes], -1) * mask[..., None],
        candidate_features=numbers(count, candidates, 4) * mask[..., None],
        candidate_mask=mask,
        initial_scores=numbers(count, candidates) * mask,
        history_items=codes(40, count, events).masked_fill(~history_mask, -1),
        history_fields=torch.stack([codes(size, count, events) for size in sizes], -1) * history_mask[..., None],
        history_features=numbers(count, events, 4) * history_mask[..., None],
        history_ages=numbers(count, events).abs() * 5 * history_mask,
        history_mask=history_mask,
        profile=codes(4, count, 1),
        labels=labels,
    )
