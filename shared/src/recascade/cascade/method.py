"""The cascade as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.cascade.config import CascadeConfig
from recascade.contracts.method import Method

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "prm": {"retriever": "personal-frequency", "reranker": "prm"},
    "psad": {"retriever": "personal-frequency", "reranker": "psad"},
    "sasrec": {"retriever": "co-visit", "ranker": "sasrec"},
}
"""Cascades to begin with: where purchases repeat, what a user takes often, re-ranked; where people want something new,
what follows what, weighed against a sequence model."""

METHOD = Method(
    name="cascade",
    stage="cascade",
    summary="retrieve, rank and re-rank: other methods in line",
    config=CascadeConfig,
    fit="recascade.cascade.fit:fit",
    serve="recascade.cascade.serve:serve",
    commands="recascade.cascade.commands:commands",
    variants=VARIANTS,
    baselines=("popularity", "item-knn", "sasrec"),
    axes={
        "retriever": ("popularity", "item-knn", "sasrec"),
        "ranker": ("none", "hstu"),
        "ranker_weight": (0.0, 0.5, 1.0),
        "retrieved": (50, 200, 1000),
    },
)
