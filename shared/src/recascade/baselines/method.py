"""The shared core's own methods, as the registry sees them. Importable without torch."""

from __future__ import annotations

from recascade.baselines import config, generative_config
from recascade.baselines.cross_domain_config import CrossDomainSASRecConfig
from recascade.contracts.method import Method

_FLOORS = ("popularity", "transition", "co-visit", "item-knn")
_SEQUENCE_AXES = {
    "dimension": (32, 64, 128),
    "max_length": (20, 50, 100),
    "dropout": (0.0, 0.2, 0.5),
    "loss.name": ("full_softmax", "sampled_softmax", "binary_cross_entropy"),
}

_GENERATIVE_AXES = {
    "dimension": (64, 128, 256),
    "dropout": (0.0, 0.1, 0.3),
    "beams": ([10], [50], [200]),
    "code_start": ("random", "content"),
    "tokenizer.name": ("residual-k-means", "rq-vae", "ua-sid"),
}

POPULARITY = Method(
    name="popularity",
    stage="retrieval",
    summary="the most popular items for everyone",
    config=config.PopularityConfig,
    fit="recascade.baselines.counting:fit_popularity",
    trained=False,
)

PERSONAL_FREQUENCY = Method(
    name="personal-frequency",
    stage="retrieval",
    summary="the user's own most frequent items, then popular ones",
    config=config.PersonalFrequencyConfig,
    fit="recascade.baselines.counting:fit_personal_frequency",
    baselines=("popularity",),
    axes={"decay": (0.9, 0.99, 1.0)},
    trained=False,
    source="Hu et al., SIGIR 2020 (GP-TopFreq)",
)

TRANSITION = Method(
    name="transition",
    stage="retrieval",
    summary="what most often came right after the last item",
    config=config.TransitionConfig,
    fit="recascade.baselines.counting:fit_transition",
    baselines=("popularity",),
    trained=False,
)

CO_VISIT = Method(
    name="co-visit",
    stage="retrieval",
    summary="what stood near the last few items in other histories",
    config=config.CoVisitConfig,
    fit="recascade.baselines.counting:fit_co_visit",
    variants={"default": {}, "symmetric": {"directed": False}},
    baselines=("popularity", "transition"),
    axes={"window": (1, 5, 10), "last": (1, 5, 20), "decay": (0.5, 0.7, 1.0)},
    trained=False,
)

ITEM_KNN = Method(
    name="item-knn",
    stage="retrieval",
    summary="nearest neighbours of the history's items by cosine",
    config=config.ItemKNNConfig,
    fit="recascade.baselines.counting:fit_item_knn",
    baselines=("popularity",),
    axes={"neighbours": (20, 100, 500), "shrinkage": (0.0, 10.0, 100.0)},
    trained=False,
    source="Deshpande and Karypis, TOIS 2004",
)

TRANSITION_SIMILARITY = Method(
    name="transition-similarity",
    stage="retrieval",
    summary="near the last item in the graph of transitions and like it in words",
    config=config.TransitionSimilarityConfig,
    fit="recascade.baselines.counting:fit_transition_similarity",
    variants={"default": {}, "last-two": {"sources": "last-two"}},
    baselines=("popularity", "transition", "co-visit"),
    axes={"edge_weight": (0.0, 0.5, 1.0)},
    trained=False,
    source="Han et al., 2026, arXiv 2605.07125",
)

GRU4REC = Method(
    name="gru4rec",
    stage="retrieval",
    provides=("ranking",),
    summary="recurrent network over the history",
    config=config.GRU4RecConfig,
    fit="recascade.baselines.neural:fit_gru4rec",
    baselines=_FLOORS,
    axes=_SEQUENCE_AXES | {"layers": (1, 2)},
    source="Hidasi et al., ICLR 2016, arXiv 1511.06939",
)

SASREC = Method(
    name="sasrec",
    stage="retrieval",
    provides=("ranking",),
    summary="causal self-attention over the history",
    config=config.SASRecConfig,
    fit="recascade.baselines.neural:fit_sasrec",
    variants={
        "default": {},
        "sampled-softmax": {"loss.name": "sampled_softmax"},
        "binary-cross-entropy": {
            "loss.name": "binary_cross_entropy",
            "loss.negatives": 1,
            "loss.sharing": "position",
        },
    },
    baselines=_FLOORS,
    axes=_SEQUENCE_AXES | {"blocks": (1, 2, 3), "heads": (1, 2, 4)},
    source="Kang and McAuley, ICDM 2018, arXiv 1808.09781",
)

CL4SREC = Method(
    name="cl4srec",
    stage="retrieval",
    summary="causal self-attention that recognises its own altered histories",
    config=config.CL4SRecConfig,
    fit="recascade.baselines.neural:fit_cl4srec",
    baselines=(*_FLOORS, "sasrec"),
    axes=_SEQUENCE_AXES | {"contrast": (0.0, 0.1, 0.5)},
    source="Xie et al., ICDE 2022, arXiv 2010.14395",
)

CROSS_DOMAIN_SASREC = Method(
    name="cross-domain-sasrec",
    stage="retrieval",
    summary="one encoder over the mixed and the own-domain history",
    config=CrossDomainSASRecConfig,
    fit="recascade.baselines.neural:fit_cross_domain_sasrec",
    baselines=(*_FLOORS, "sasrec"),
    axes={"dimension": (32, 64, 128), "rank": (8, 16, 32), "max_length": (50, 100)},
    source="after ABXI: Bian et al., WWW 2025, arXiv 2501.15118",
)

HSTU = Method(
    name="hstu",
    stage="retrieval",
    provides=("ranking",),
    summary="pointwise gated attention over the history, with relative times",
    config=config.HSTUConfig,
    fit="recascade.baselines.neural:fit_hstu",
    variants={
        "default": {},
        "release": {
            "output": "unit_length",
            "loss.name": "sampled_softmax",
            "loss.negatives": 128,
            "loss.temperature": 0.05,
        },
    },
    baselines=(*_FLOORS, "sasrec"),
    axes=_SEQUENCE_AXES | {"blocks": (1, 2, 4), "heads": (1, 2, 4)},
    source="Zhai et al., ICML 2024, arXiv 2402.17152",
)

DSSM = Method(
    name="dssm",
    stage="retrieval",
    provides=("ranking",),
    summary="two towers over recent items and features",
    config=config.DSSMConfig,
    fit="recascade.baselines.neural:fit_dssm",
    variants={"default": {}, "without-features": {"item_features": False, "user_features": False}},
    baselines=_FLOORS,
    axes=_SEQUENCE_AXES,
    source="Huang et al., CIKM 2013",
)

TIGER = Method(
    name="tiger",
    stage="retrieval",
    summary="writes the semantic id of the next item: encoder and decoder",
    config=generative_config.TIGERConfig,
    fit="recascade.baselines.generative:fit_tiger",
    variants={
        "default": {},
        "causal": {"encoder": "causal"},
        "items": {"reading": "items"},
        "split-ids": {"sharing": "split"},
        "ua-sid": {"tokenizer.name": "ua-sid"},
    },
    baselines=(*_FLOORS, "sasrec"),
    axes=_GENERATIVE_AXES | {"encoder": ("bidirectional", "causal"), "decoder_blocks": (1, 2, 4)},
    source="Rajput et al., NeurIPS 2023, arXiv 2305.05065",
)

DECODER_ONLY = Method(
    name="decoder-only",
    stage="retrieval",
    summary="continues a history's codes with the semantic id of the next item",
    config=generative_config.DecoderOnlyConfig,
    fit="recascade.baselines.generative:fit_decoder_only",
    variants={
        "default": {},
        "items": {"reading": "items"},
        "split-ids": {"sharing": "split"},
        "ua-sid": {"tokenizer.name": "ua-sid"},
    },
    baselines=(*_FLOORS, "sasrec", "tiger"),
    axes=_GENERATIVE_AXES | {"blocks": (2, 4, 6)},
    source="the decoder-only variant that GRID (CIKM 2025) compares with TIGER",
)
