"""What a tower reads of a user or an item: identity, features, and what is handed in from outside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from recascade.errors import ConfigurationError
from recascade.models.feature_encoder import FeatureEncoder
from recascade.models.id_embedding import Entity, IdEmbedding

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class EntityInputs(nn.Module):
    """A vector of the identity, a vector of the features and an extra block, side by side.

    Args:
        entity: users or items.
        count: known users or items.
        dimension: width of the vectors of identity and features.
        features: of the first rows of the vocabulary, or None.
        identity: read the identity.
        extra: width of the block that is handed in; 0 for none.
        initial_deviation: standard deviation of the initial embeddings.
        sparse: see ``IdEmbedding``.

    Attributes:
        own_widths: of identity and features.
        own_width: of both together.
        widths: of all blocks.
        width: of all blocks together; 0 where there are none.
    """

    def __init__(
        self,
        entity: Entity,
        count: int,
        dimension: int,
        features: FeatureTable | None = None,
        *,
        identity: bool = True,
        extra: int = 0,
        initial_deviation: float = 0.02,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.rows = count
        self.extra = extra
        self.initial_deviation = initial_deviation
        self.identity = None
        if identity:
            self.identity = IdEmbedding(count, dimension, entity, initial_deviation=initial_deviation, sparse=sparse)
        self.features = None if features is None else FeatureEncoder(features, dimension, initial_deviation)
        self.own_widths = [dimension] * ((self.identity is not None) + (self.features is not None))
        self.own_width = sum(self.own_widths)
        self.widths = [*self.own_widths, extra] if extra else self.own_widths
        self.width = sum(self.widths)

    @property
    def count(self) -> int:
        """Known users or items; grows with the embedding of the identity, where there is one."""
        return self.rows if self.identity is None else self.identity.count

    def known(self) -> Tensor:
        """int64 ``[count]``, the indices of all known users or items."""
        parameter = next(self.parameters(), None)
        return torch.arange(self.count, device=None if parameter is None else parameter.device)

    def own(self, indices: Tensor) -> list[Tensor]:
        """Vectors of identity and features, each ``[n, dimension]``, of these indices (int64 ``[n]``, -1: unknown)."""
        return [part(indices) for part in (self.identity, self.features) if part is not None]

    def own_mean(self, indices: Tensor, offsets: Tensor) -> list[Tensor]:
        """The means of ``own`` over bags, each ``[B, dimension]``, 0 for an empty one.

        Args:
            indices: int64 ``[T]``, -1 for unknown.
            offsets: int64 ``[B + 1]``, ascending from 0 to T.
        """
        return [part.mean(indices, offsets) for part in (self.identity, self.features) if part is not None]

    def blocks(self, indices: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """All blocks, of the widths ``widths``.

        Args:
            indices: int64 ``[n]``, -1 for unknown.
            extra: float32 ``[n, extra]``, or None for zeros.

        Raises:
            ConfigurationError: the extra block has another shape.
        """
        blocks = self.own(indices)
        if extra is not None and extra.shape != (len(indices), self.extra):
            raise ConfigurationError(
                f"An extra input block of shape {list(extra.shape)} reached a tower that was built for "
                f"{[len(indices), self.extra]}; give user_extra or item_extra the width of what is passed."
            )
        if self.extra:
            zeros = torch.zeros(len(indices), self.extra, device=indices.device) if extra is None else extra
            blocks.append(zeros)
        return blocks

    def forward(self, indices: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """``[n, width]``, all blocks side by side, of these indices or of all that are known."""
        return side_by_side(self.blocks(self.known() if indices is None else indices, extra))


class TowerInputs(TypedDict, total=False):
    """What both towers of a model read; each of these arguments may be given to its constructor by name.

    Attributes:
        embedding_dimension: width of the embedding of each identity and of each entity's features; 16.
        item_features: of the first items, or None.
        user_features: of the first users, or None.
        item_identity: give each item an embedding of its own; True.
        user_extra: width of the extra input block of the user tower; 0.
        item_extra: width of the extra input block of the item tower; 0.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
        sparse: see ``IdEmbedding``; False.
    """

    embedding_dimension: int
    item_features: FeatureTable | None
    user_features: FeatureTable | None
    item_identity: bool
    user_extra: int
    item_extra: int
    initial_deviation: float
    sparse: bool


def tower_inputs(
    items: int,
    users: int,
    *,
    embedding_dimension: int = 16,
    item_features: FeatureTable | None = None,
    user_features: FeatureTable | None = None,
    item_identity: bool = True,
    user_extra: int = 0,
    item_extra: int = 0,
    initial_deviation: float = 0.02,
    sparse: bool = False,
) -> tuple[EntityInputs, EntityInputs]:
    """The inputs of items and of users (see ``TowerInputs``); with ``users=0`` no user has an embedding."""
    made = partial(EntityInputs, initial_deviation=initial_deviation, sparse=sparse)
    return (
        made("item", items, embedding_dimension, item_features, identity=item_identity, extra=item_extra),
        made("user", users, embedding_dimension, user_features, identity=users > 0, extra=user_extra),
    )


def side_by_side(blocks: list[Tensor]) -> Tensor:
    """Blocks ``[n, ...]`` of the same rows as one matrix."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)


def check_input_width(side: str, width: int) -> None:
    """Refuse a tower that reads nothing.

    Raises:
        ConfigurationError: the width is 0.
    """
    if width == 0:
        raise ConfigurationError(
            f"The {side} tower reads nothing; give it an identity, features, recent items or an extra block."
        )
