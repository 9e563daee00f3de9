"""DAT: the dual augmented two-tower model (Yu et al., DLP-KDD 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError, did_you_mean
from recascade.models.dssm import DSSM
from recascade.models.entity_inputs import TowerInputs
from recascade.models.id_embedding import IdEmbedding
from recascade.models.two_tower import InnerProduct, Similarity
from recascade.nn.category_alignment import category_alignment
from recascade.nn.tower import LayerFactory, plain_layer

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class DAT(InnerProduct, nn.Module):
    """Two towers that also read a learned vector per user and per item, each taught to mimic what it met in the other
    tower.

    The mimic loss (the paper's adaptive-mimic mechanism) is for each side ``y · ‖a - sg(p)‖²``, averaged over the
    events: on a positive event a user's augmented vector moves to the item tower's output, which gets no gradient, and
    the other way round. That both are normalised first, and the weights of 0.5, are TorchEasyRec's, as reported. The
    optional alignment of categories is the paper's third loss, see ``category_alignment``.

    The towers are those of ``DSSM``; arguments not listed here are its own.

    Args:
        items: size I of the catalogue.
        users: number U of users; each gets an augmented vector.
        user_identity: give each user an embedding as well.
        mimic_weight: of the mimic losses of users and of items.
        category: a single-valued categorical feature of items, by which item vectors are aligned; None for no such
            loss.
        alignment_weight: of that loss.

    Raises:
        ConfigurationError: no such category, or a tower would read nothing.
    """

    item_categories: Tensor

    def __init__(
        self,
        items: int,
        users: int,
        dimension: int = 16,
        hidden: Sequence[int] = (64, 32),
        recent: int = 20,
        *,
        mimic_weight: tuple[float, float] = (0.5, 0.5),
        category: str | None = None,
        alignment_weight: float = 1.0,
        user_identity: bool = True,
        user_layer: LayerFactory = plain_layer,
        item_layer: LayerFactory = plain_layer,
        similarity: Similarity = "cosine",
        **inputs: Unpack[TowerInputs],
    ) -> None:
        super().__init__()
        self.user_width = self.item_width = dimension
        self.history_length = recent
        self.user_extra, self.item_extra = inputs.get("user_extra", 0), inputs.get("item_extra", 0)
        self.mimic_weight = mimic_weight
        self.alignment_weight = alignment_weight if category else 0.0
        self.register_buffer("item_categories", _categories(inputs.get("item_features"), category), persistent=False)
        widened: TowerInputs = {
            **inputs,
            "user_extra": dimension + self.user_extra,
            "item_extra": dimension + self.item_extra,
        }
        self.towers = DSSM(
            items,
            dimension,
            hidden,
            recent,
            users=users if user_identity else 0,
            user_layer=user_layer,
            item_layer=item_layer,
            similarity=similarity,
            **widened,
        )
        sparse, deviation = inputs.get("sparse", False), self.towers.item_inputs.initial_deviation
        self.user_augmented = IdEmbedding(users, dimension, "user", initial_deviation=deviation, sparse=sparse)
        self.item_augmented = IdEmbedding(items, dimension, "item", initial_deviation=deviation, sparse=sparse)

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        return self.towers.user_vectors(context, _beside(self.user_augmented(context.users), extra, self.user_extra))

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        if items is None:
            items = torch.arange(self.item_augmented.count, device=self.item_augmented.weight.device)
        return self.towers.item_vectors(items, _beside(self.item_augmented(items), extra, self.item_extra))

    def auxiliary_loss(
        self, context: Context, items: Tensor, users: Tensor, item_vectors: Tensor, labels: Tensor
    ) -> Tensor:
        """See ``recascade.models.two_tower.AuxiliaryLoss``."""
        user_weight, item_weight = self.mimic_weight
        loss = user_weight * mimic_loss(self.user_augmented(context.users), item_vectors, labels)
        loss = loss + item_weight * mimic_loss(self.item_augmented(items), users, labels)
        if self.alignment_weight:
            none = len(self.item_categories) - 1
            places = items.masked_fill((items < 0) | (items > none), none)
            loss = loss + self.alignment_weight * category_alignment(item_vectors, self.item_categories[places])
        return loss


def mimic_loss(augmented: Tensor, mimicked: Tensor, labels: Tensor) -> Tensor:
    """Scalar: the squared distance of augmented vectors from the vectors that they met in positive events.

    Args:
        augmented: ``[B, d]``.
        mimicked: ``[B, d]``, gets no gradient.
        labels: float32 ``[B]``, 0 or 1.
    """
    distances = (normalize(augmented, dim=1) - normalize(mimicked.detach(), dim=1)).square().sum(1)
    return (labels * distances).mean()


def _beside(augmented: Tensor, extra: Tensor | None, extra_width: int) -> Tensor:
    """Augmented vectors ``[n, d]`` and the caller's extra block, zeros where there is none."""
    return pad(augmented, (0, extra_width)) if extra is None else torch.cat([augmented, extra], 1)


def _categories(features: FeatureTable | None, name: str | None) -> Tensor:
    """int64 ``[N + 1]``, the code of each item, then 0 for unknown items."""
    if name is None:
        return torch.zeros(1, dtype=torch.int64)
    names = () if features is None else features.categorical_names
    if features is None or name not in names:
        raise ConfigurationError(f"Items have no single-valued feature {name!r} to align.{did_you_mean(name, names)}")
    codes = np.asarray(features.categorical[:, names.index(name)], dtype=np.int64)
    return torch.from_numpy(np.append(codes, 0))
