"""The cascade as the registry sees it. Importable without torch."""

from __future__ import annotations

from recascade.cascade.config import CascadeConfig
from recascade.contracts.method import Method

METHOD = Method(
    name="cascade",
    stage="cascade",
    summary="retrieve, rank and re-rank: other methods in line",
    config=CascadeConfig,
    fit="recascade.cascade.fit:fit",
    serve="recascade.cascade.serve:serve",
    commands="recascade.cascade.commands:commands",
    baselines=("popularity", "item-knn", "sasrec"),
    axes={
        "retriever": ("popularity", "item-knn", "sasrec"),
        "ranker": ("none", "hstu"),
        "retrieved": (50, 200, 1000),
    },
)
