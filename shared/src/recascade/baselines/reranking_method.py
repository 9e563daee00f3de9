"""The shared core's re-rankers, as the registry sees them. Importable without torch."""

from __future__ import annotations

from recascade.baselines import reranking_config as config
from recascade.contracts.method import Method

_FLOORS = ("initial-order",)
_AXES = {
    "dimension": (32, 64, 128),
    "user": ("none", "concatenated", "attended"),
    "item_identity": (True, False),
    "dropout": (0.0, 0.1, 0.3),
}
_USER_VARIANTS = {"default": {}, "without-user": {"user": "none"}, "attended": {"user": "attended"}}
_LOSSES = config.SCORE_LOSSES

INITIAL_ORDER = Method(
    name="initial-order",
    stage="re-ranking",
    summary="the order of the earlier stage, left as it is",
    config=config.InitialOrderConfig,
    fit="recascade.baselines.reranking:fit_initial_order",
    trained=False,
)

MMR = Method(
    name="mmr",
    stage="re-ranking",
    summary="relevance minus likeness to what stands above, greedily",
    config=config.MMRConfig,
    fit="recascade.baselines.reranking:fit_mmr",
    baselines=_FLOORS,
    trained=False,
    source="Carbonell and Goldstein, SIGIR 1998",
)

DPP = Method(
    name="dpp",
    stage="re-ranking",
    summary="a determinantal point process, greedily",
    config=config.DPPConfig,
    fit="recascade.baselines.reranking:fit_dpp",
    baselines=_FLOORS,
    trained=False,
    source="Chen, Zhang and Zhou, NeurIPS 2018, arXiv 1709.05135",
)

DLCM = Method(
    name="dlcm",
    stage="re-ranking",
    summary="a recurrent network reads the list, last candidate first",
    config=config.DLCMConfig,
    fit="recascade.baselines.reranking:fit_dlcm",
    variants=_USER_VARIANTS,
    baselines=_FLOORS,
    axes=_AXES | {"loss": _LOSSES},
    source="Ai et al., SIGIR 2018, arXiv 1804.05936",
)

PRM = Method(
    name="prm",
    stage="re-ranking",
    summary="attention among the candidates and their places",
    config=config.PRMConfig,
    fit="recascade.baselines.reranking:fit_prm",
    variants=_USER_VARIANTS,
    baselines=_FLOORS,
    axes=_AXES | {"blocks": (1, 2, 4), "loss": _LOSSES},
    source="Pei et al., RecSys 2019, arXiv 1904.06813",
)

SET_RANK = Method(
    name="set-rank",
    stage="re-ranking",
    summary="attention among the candidates as a set",
    config=config.SetRankConfig,
    fit="recascade.baselines.reranking:fit_set_rank",
    variants=_USER_VARIANTS,
    baselines=_FLOORS,
    axes=_AXES | {"blocks": (1, 2, 6), "inducing": (0, 20), "loss": _LOSSES},
    source="Pang et al., SIGIR 2020, arXiv 1912.05891",
)

MIR = Method(
    name="mir",
    stage="re-ranking",
    summary="the candidates as a set against the history as a list",
    config=config.MIRConfig,
    fit="recascade.baselines.reranking:fit_mir",
    baselines=(*_FLOORS, "prm"),
    axes={"dimension": (32, 64, 128), "dropout": (0.0, 0.1, 0.3), "loss": _LOSSES},
    source="Xi et al., SIGIR 2022, arXiv 2204.09370",
)

SEQ2SLATE = Method(
    name="seq2slate",
    stage="re-ranking",
    summary="a pointer network writes the list candidate by candidate",
    config=config.Seq2SlateConfig,
    fit="recascade.baselines.reranking:fit_seq2slate",
    variants=_USER_VARIANTS,
    baselines=(*_FLOORS, "prm"),
    axes=_AXES | {"prefix": ("self", "gold")},
    source="Bello et al., 2018, arXiv 1810.02019",
)

NAR4REC = Method(
    name="nar4rec",
    stage="re-ranking",
    summary="all slots of the list filled at once",
    config=config.NAR4RecConfig,
    fit="recascade.baselines.reranking:fit_nar4rec",
    variants=_USER_VARIANTS,
    baselines=(*_FLOORS, "prm", "seq2slate"),
    axes=_AXES | {"blocks": (1, 2), "unlikelihood": (0.0, 1.0)},
    source="in the manner of Ren et al., KDD 2024, arXiv 2402.06871",
)
