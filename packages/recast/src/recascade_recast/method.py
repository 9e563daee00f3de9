"""ReCast as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_recast.config import ReCastConfig

_GROUP = {"signal.repair": "never", "signal.contrast": "group"}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "sft": {"stage": "none"},
    "sft-continuation": {"stage": "continue"},
    "grpo": _GROUP,
    "dr-grpo": {**_GROUP, "update.family": "dr-grpo"},
    "dapo": {**_GROUP, "update.family": "dapo", "signal.drop_equal": True},
    "gspo": {**_GROUP, "update.family": "gspo"},
    "repair-only": {"signal.contrast": "group"},
    "contrast-only": {"signal.repair": "never"},
    "recast": {},
    "random-negative": {"signal.contrast": "random"},
    "always-gt": {"signal.repair": "always", "signal.contrast": "group"},
    "dapo-filter": {**_GROUP, "signal.drop_equal": True},
    "adaptive-repair": {"signal.adaptive": 0.5},
}
"""The paper's four (``grpo``, ``repair-only``, ``contrast-only`` as its "Boundary-only", ``recast``, which is
``default``), other members of GRPO's family, and controls: supervised learning alone and continued on as many targets,
any miss in the place of the hardest, the target in every group, groups of equal rewards left out. ``adaptive-repair``
is our extension."""

METHOD = Method(
    name="recast",
    stage="retrieval",
    summary="reinforcement learning for generators that learns from groups in which nobody hit",
    config=ReCastConfig,
    fit="recascade_recast.fit:fit",
    variants=VARIANTS,
    baselines=("tiger", "decoder-only", "popularity"),
    axes={
        "signal.repair": ("all-zero", "never", "always"),
        "signal.contrast": ("boundary", "random", "group"),
        "rollout.width": (4, 8, 16, 32, 64),
        "rollout.search": ("beam", "sample"),
        "signal.repaired_weight": (0.0, 0.25, 0.5, 1.0),
        "update.family": ("grpo", "dr-grpo", "dapo", "gspo"),
        "update.divergence": (0.0, 0.001, 0.01, 0.05),
        "update.learning_rate": (1e-5, 3e-5, 1e-4),
        "update.denominator": ("active", "group"),
    },
    source="Zhang et al., 2026, arXiv 2604.22169 v1",
)
