"""Taesar as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_taesar.config import TaesarConfig

RELEASE: dict[str, Any] = {
    "decoding.id_shift": 1,
    "decoding.id_order": "first-appearance",
    "decoding.local_argmax": "all",
    "decoding.js": "reversed",
    "decoding.space": "logits",
}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "replace": {"output": "replace"},
    "target-only": {"training_data": "target"},
    "mixed": {"training_data": "mixed"},
    "random-successor": {"training_data": "random-successor"},
    "shifted": {"training_data": "shifted", "decoding.id_order": "first-appearance"},
    "release": RELEASE,
    "without-adaptation": {"regenerator.adaptation_epochs": 0},
    "without-source-experts": {"decoding.source_experts": False},
    "global-score": {"decoding.scores": "global"},
    "local-score": {"decoding.scores": "local"},
}
"""``default`` is the corrected decoder and ``release`` the released one with its error; ``target-only`` and ``mixed``
are the paper's baselines; ``random-successor`` and ``shifted`` insert without a model; the last four are the ablations
that the release names."""

METHOD = Method(
    name="taesar",
    stage="data",
    provides=("retrieval",),
    needs=("domains",),
    summary="turns histories of several domains into training data of one",
    config=TaesarConfig,
    fit="recascade_taesar.fit:fit",
    commands="recascade_taesar.commands:commands",
    variants=VARIANTS,
    baselines=("popularity", "transition", "sasrec", "cross-domain-sasrec"),
    axes={
        "training_data": ("regenerated", "target", "mixed", "random-successor", "shifted"),
        "output": ("union", "replace"),
        "backbone.name": ("sasrec", "gru4rec", "hstu", "cl4srec"),
        "regenerator.adaptation_epochs": (0, 5, 10, 20),
        "decoding.source_experts": (True, False),
        "decoding.scores": ("global-local", "global", "local"),
        "decoding.entropy": (True, False),
        "decoding.divergence": (True, False),
        "decoding.js": ("reversed", "standard"),
        "decoding.plausibility": (0.0, 0.01, 0.1),
        "decoding.id_shift": (0, 1),
    },
    source="Taesar, WWW 2026, arXiv 2602.22743 (algorithm as in its released code)",
)
