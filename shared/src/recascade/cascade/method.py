"""The cascade as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.cascade.config import CascadeConfig
from recascade.contracts.method import Method

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "prm": {"retriever": "personal-frequency", "reranker": "prm"},
    "psad": {"retriever": "personal-frequency", "reranker": "psad"},
}
"""What a user takes often, re-ranked: the cascades to begin with where purchases repeat."""

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
        "retrieved": (50, 200, 1000),
    },
)
