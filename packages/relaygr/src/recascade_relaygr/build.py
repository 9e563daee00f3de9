"""From settings to a ranker."""

from __future__ import annotations

from recascade_relaygr.config import RelayGRConfig
from recascade_relaygr.ranker.hstu_ranker import HSTURanker


def build(settings: RelayGRConfig, items: int, *, has_times: bool) -> HSTURanker:
    """The ranker, with random weights.

    Args:
        settings: of the method.
        items: size of the catalogue.
        has_times: whether the data have any.
    """
    return HSTURanker(
        items,
        dimension=settings.dimension,
        blocks=settings.blocks,
        heads=settings.heads,
        max_length=settings.max_length,
        dropout=settings.dropout,
        time_buckets=settings.time_buckets if has_times else 0,
        normaliser=settings.normaliser,
        repetitions=settings.repetitions,
    )
