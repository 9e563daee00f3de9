"""RelayGR as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_relaygr.config import RelayGRConfig

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "truncated": {"max_length": 64},
    "without-times": {"time_buckets": 0},
    "without-repetitions": {"repetitions": False},
    "whole-catalogue": {"candidates.shortlist": 0},
}
"""``truncated`` is what a ranking stage does that cannot afford the long history."""

METHOD = Method(
    name="relaygr",
    stage="ranking",
    summary="ranks with long histories inside the latency budget, running the prefix early",
    config=RelayGRConfig,
    fit="recascade_relaygr.fit:fit",
    serve="recascade_relaygr.serve:serve",
    commands="recascade_relaygr.commands:commands",
    live="recascade_relaygr.live_ranker:LiveRanker",
    variants=VARIANTS,
    baselines=("popularity", "personal-frequency", "hstu", "sasrec"),
    axes={
        "max_length": (32, 64, 128, 256, 512, 1024),
        "blocks": (1, 2, 4),
        "time_buckets": (0, 64),
        "repetitions": (False, True),
        "candidates.shortlist": (100, 500, 2000),
        "candidates.own": (0.0, 0.5, 1.0),
    },
    source="Jin et al., 2026, arXiv 2601.01712 (from public summaries; its inner sections were not available)",
)
