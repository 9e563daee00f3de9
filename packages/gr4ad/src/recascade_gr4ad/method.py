"""GR4AD as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_gr4ad.config import GR4ADConfig

_NO_VALUES = {"values.source": "none", "values.buckets": 0, "values.user_weights": False}
_PLAIN = {**_NO_VALUES, "multi_token": 0.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "vanilla": {**_PLAIN, "trunk_layers": 0, "fusion": "add", "fuse_first": True},
    "lazy-ar": _PLAIN,
    "lazy-ar-mtp": _NO_VALUES,
    "vsl": {},
    "rspo": {"preference.objective": "rspo"},
    "dpo": {"preference.objective": "dpo"},
    "s-dpo": {"preference.objective": "s-dpo"},
    "grpo": {"preference.objective": "grpo"},
    "unified": {"preference.objective": "unified"},
}
"""The rows of the paper's table 1, from a plain decoder to value-aware training (``default`` and ``vsl``) and to each
second stage. All have the same ids."""

METHOD = Method(
    name="gr4ad",
    stage="retrieval",
    summary="generates ads code by code, by value, with layers that do not wait for the code before",
    config=GR4ADConfig,
    fit="recascade_gr4ad.fit:fit",
    serve="recascade_gr4ad.serve:serve",
    commands="recascade_gr4ad.commands:commands",
    variants=VARIANTS,
    baselines=("tiger", "decoder-only", "sasrec", "co-visit"),
    axes={
        "trunk_layers": (0, 1, 2, 3, 4, 5),
        "fusion": ("residual", "gated", "add"),
        "multi_token": (0.0, 0.1, 0.3, 1.0),
        "beams": ([10], [50], [12, 25, 50], [200]),
        "code_start": ("random", "content"),
        "tokenizer.name": ("residual-k-means", "ua-sid"),
        "preference.objective": ("none", "dpo", "s-dpo", "grpo", "rspo", "unified"),
        "values.gamma": (0.0, 0.1, 0.3, 1.0),
    },
    source="Kuaishou, 2026, arXiv 2602.22732 v3",
)
