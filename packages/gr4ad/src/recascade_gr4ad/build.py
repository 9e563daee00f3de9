"""From a configuration to a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from recascade.models.history_tokens import Reading
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.lazy_ar import Fusion, LazyAR

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable
    from recascade.data.vocabulary import Vocabulary
    from recascade.tokenizers.semantic_ids import SemanticIds


def build_decoder(
    settings: GR4ADConfig,
    codes: Tensor,
    sizes: Sequence[int],
    value_buckets: int,
    user_features: FeatureTable | None,
) -> LazyAR:
    """The decoder that a configuration describes, with weights as torch's generator draws them.

    Args:
        settings: of the method.
        codes: int64 ``[I, T]``, ids of the items.
        sizes: codes per level.
        value_buckets: of the eCPM step; 0 for none.
        user_features: of the users; read only if the settings say so.
    """
    return LazyAR(
        codes,
        sizes,
        dimension=settings.dimension,
        layers=settings.layers,
        trunk_layers=settings.trunk_layers,
        heads=settings.heads,
        head_width=settings.head_width,
        hidden=settings.hidden,
        fusion=cast(Fusion, settings.fusion),
        fuse_first=settings.fuse_first,
        value_buckets=value_buckets,
        context_sets=settings.context_sets,
        max_length=settings.max_length,
        dropout=settings.dropout,
        reading=cast(Reading, settings.reading),
        user_buckets=settings.user_buckets,
        user_features=user_features if settings.user_features else None,
    )


def codes_of(ids: SemanticIds, items: Vocabulary) -> Tensor:
    """int64 ``[I, T]``, the ids of a vocabulary's items in its order.

    Raises:
        DataError: an item has none.
    """
    return torch.from_numpy(ids.codes_for(items)).long()
