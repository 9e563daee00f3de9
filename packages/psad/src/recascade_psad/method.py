"""PSAD as the registry sees it. Importable without torch."""

from __future__ import annotations

from typing import Any

from recascade.contracts.method import Method
from recascade_psad.config import PSADConfig

_TEACHER = {"serve": "teacher"}
_TEACHER_ALONE = {"train": "teacher", "serve": "teacher"}
_NO_PROFILE = {"profile.gate": False, "profile.dynamics": False, "profile.position": False}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "teacher": _TEACHER,
    "without-distillation": {"distillation.weight": 0.0},
    "teacher-without-distillation": {**_TEACHER, "distillation.weight": 0.0},
    "student-alone": {"train": "student"},
    "teacher-alone": _TEACHER_ALONE,
    "autoregressive": {**_TEACHER_ALONE, "teacher.block": 1},
    "non-autoregressive": {**_TEACHER_ALONE, "teacher.block": 0},
    "offline": {"train": "offline"},
    "separate": {"shared": False},
    "mutual": {"distillation.mutual": True},
    "without-profile": _NO_PROFILE,
    "teacher-without-profile": {**_TEACHER, **_NO_PROFILE},
    "pooled-context": {"student.context": "pool"},
    "transformer-context": {"student.context": "transformer"},
}
"""``default`` is PSAD's student and ``teacher`` its teacher. The controls, without which a gain of distillation means
little: both networks side by side without it, each alone, and a student of a finished teacher (``offline``)."""

METHOD = Method(
    name="psad",
    stage="re-ranking",
    summary="a block-wise generator teaches a one-pass scorer while both learn",
    config=PSADConfig,
    fit="recascade_psad.fit:fit",
    variants=VARIANTS,
    baselines=("initial-order", "prm", "set-rank", "mir", "seq2slate", "nar4rec"),
    axes={
        "teacher.block": (1, 2, 5, 10, 0),
        "teacher.commit": ("greedy", "confidence", "hungarian"),
        "teacher.prefix": ("mix", "gold", "self"),
        "profile.gate": (True, False),
        "profile.dynamics": (True, False),
        "profile.position": (True, False),
        "distillation.target": ("plackett-luce", "first", "rank", "listmle", "pairwise"),
        "distillation.source": ("free", "forced"),
        "distillation.temperature": (0.5, 1.0, 2.0),
        "distillation.weight": (0.0, 0.25, 0.5, 1.0),
        "distillation.warm_up": (0, 3, 6),
        "shared": (True, False),
        "item_identity": (True, False),
        "student.context": ("none", "pool", "attention", "transformer"),
    },
    source="Cheng et al., 2026, arXiv 2603.07107 v1 (abstract and summaries; a reconstruction)",
    serve="recascade_psad.serve:serve",
    commands="recascade_psad.commands:commands",
)
