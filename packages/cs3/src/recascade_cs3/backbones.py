"""The backbones of the shared core with CS3 plugged in from outside: layers from a factory, extra inputs per tower."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recascade.models.dat import DAT
from recascade.models.din import DIN
from recascade.models.dssm import DSSM
from recascade.models.factorisation import Factorisation
from recascade.models.int_tower import IntTower
from recascade.models.transformer_tower import TransformerTower
from recascade.models.two_tower import TwoTower
from recascade_cs3.cas import layer_factory
from recascade_cs3.config import BackboneConfig, CS3Config

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable

# Tables of identities are made with one row and grow with the stream; see recascade.models.id_embedding.
_FIRST_ROWS = 1


def build_backbone(
    config: CS3Config, user_features: FeatureTable | None = None, item_features: FeatureTable | None = None
) -> TwoTower:
    """The towers that the configuration names, an ``nn.Module``, with empty tables of identities that grow.

    Args:
        config: of the method.
        user_features: of users, or None.
        item_features: of items, or None.
    """
    settings = config.backbone
    inputs: dict[str, Any] = {
        "embedding_dimension": settings.embedding_dimension,
        "user_features": user_features if settings.user_features else None,
        "item_features": item_features if settings.item_features else None,
        "users": _FIRST_ROWS if settings.user_identity else 0,
        "item_identity": settings.item_identity,
        "sparse": True,
    }
    build = _BUILDERS[settings.name]
    if settings.name == "factorisation":
        return build(settings, inputs)
    # The widths of what the towers read of each other follow from their outputs: ask towers that read nothing else.
    probe = build(settings, inputs | {"user_features": None, "item_features": None, "user_extra": 1, "item_extra": 1})
    shared = config.ranker.width if config.cms.enabled else 0
    return build(
        settings,
        inputs
        | {
            "user_extra": (probe.item_width if config.cts.enabled else 0) + shared,
            "item_extra": (probe.user_width if config.cts.enabled else 0) + shared,
            "user_layer": layer_factory(config.cas, "user"),
            "item_layer": layer_factory(config.cas, "item"),
        },
    )


def build_ranker(config: CS3Config, user_features: FeatureTable | None, item_features: FeatureTable | None) -> DIN:
    """The downstream ranker."""
    settings = config.ranker
    return DIN(
        _FIRST_ROWS,
        _FIRST_ROWS if settings.user_identity else 0,
        embedding_dimension=settings.embedding_dimension,
        hidden=(settings.hidden,),
        hidden_width=settings.width,
        history_length=settings.history,
        user_features=user_features if config.backbone.user_features else None,
        item_features=item_features if config.backbone.item_features else None,
        sparse=True,
    )


def _perceptrons(settings: BackboneConfig) -> dict[str, Any]:
    return {"dimension": settings.dimension, "hidden": settings.hidden, "similarity": settings.similarity}


def _dssm(settings: BackboneConfig, inputs: dict[str, Any]) -> TwoTower:
    return DSSM(_FIRST_ROWS, recent=settings.recent, **_perceptrons(settings), **inputs)


def _dat(settings: BackboneConfig, inputs: dict[str, Any]) -> TwoTower:
    inputs = {**inputs, "users": _FIRST_ROWS, "user_identity": settings.user_identity}
    return DAT(_FIRST_ROWS, recent=settings.recent, **_perceptrons(settings), **inputs)


def _int_tower(settings: BackboneConfig, inputs: dict[str, Any]) -> TwoTower:
    return IntTower(
        _FIRST_ROWS, recent=settings.recent, heads=settings.interaction_heads, **_perceptrons(settings), **inputs
    )


def _transformer(settings: BackboneConfig, inputs: dict[str, Any]) -> TwoTower:
    return TransformerTower(
        _FIRST_ROWS,
        recent=settings.history,
        blocks=settings.blocks,
        heads=settings.heads,
        **_perceptrons(settings),
        **inputs,
    )


def _factorisation(settings: BackboneConfig, inputs: dict[str, Any]) -> TwoTower:
    # Its identities and features are vectors of the factors' own width; there is no tower between.
    own = {name: value for name, value in inputs.items() if name != "embedding_dimension"}
    return Factorisation(_FIRST_ROWS, dimension=settings.dimension, **own)


_BUILDERS: dict[str, Callable[[BackboneConfig, dict[str, Any]], TwoTower]] = {
    "dssm": _dssm,
    "dat": _dat,
    "int_tower": _int_tower,
    "transformer": _transformer,
    "factorisation": _factorisation,
}
