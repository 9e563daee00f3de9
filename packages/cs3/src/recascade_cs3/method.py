"""CS3 as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_cs3.config import CS3Config

_MECHANISMS = ("cas", "cts", "cms")


def _only(*mechanisms: str) -> dict[str, Any]:
    """Overrides that switch on these mechanisms and no others."""
    return {f"{name}.enabled": name in mechanisms for name in _MECHANISMS}


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "base": _only(),
    "cas": _only("cas"),
    "cts": _only("cts"),
    "cms": _only("cms"),
    "cas-cts": _only("cas", "cts"),
    "cas-cms": _only("cas", "cms"),
    "cts-cms": _only("cts", "cms"),
    "serving-preset": {"cas.item": False, "cas.input_layer": False},
    "distillation": {**_only(), "distillation": 0.5},
    "factorisation": {**_only(), "backbone.name": "factorisation"},
    "random-vectors": {"tables.vectors": "random"},
    "untrained-ranker": {"ranker.name": "untrained"},
}
"""Every combination of the mechanisms (``default`` is all three), what is served online, and what to compare with:
the ranker's predictions as soft labels, hybrid matrix factorisation, and two controls that should gain nothing."""

METHOD = Method(
    name="cs3",
    stage="retrieval",
    needs=("times",),
    summary="two towers that learn online from themselves, from each other and from the ranker",
    config=CS3Config,
    fit="recascade_cs3.fit:fit",
    serve="recascade_cs3.serve:serve",
    commands="recascade_cs3.commands:commands",
    variants=VARIANTS,
    baselines=("popularity", "dssm"),
    axes={
        "cas.enabled": (True, False),
        "cts.enabled": (True, False),
        "cms.enabled": (True, False),
        "backbone.name": ("dssm", "dat", "int_tower", "transformer"),
        "backbone.user_identity": (True, False),
        "cts.alpha": (0.5, 0.8, 0.9, 0.95),
        "cms.beta": (0.5, 0.8, 0.9, 0.95),
        "tables.vectors": ("stored", "random"),
    },
    source="Wang et al., 2026, arXiv 2604.19269 (mechanisms as reported by public readings of it)",
)
