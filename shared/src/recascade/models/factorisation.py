"""Hybrid matrix factorisation in the manner of LightFM (Kula, CBRecSys 2015, arXiv 1507.08439)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.entity_inputs import EntityInputs, check_input_width
from recascade.models.two_tower import InnerProduct

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class Factorisation(InnerProduct, nn.Module):
    """A user's vector is the sum of the embeddings of the identity and of all features; so is an item's. No layers.

    The score is the paper's ``q · p + b_user + b_item``: the biases are sums over the same identities and features, and
    folded into the inner product, ``[q, b_user, 1] · [p, 1, b_item]``. The mean over a multi-valued feature, where the
    paper sums, is our choice.

    Args:
        items: size I of the catalogue.
        users: number U of users that get an embedding of their own; 0 for none.
        dimension: width d of the embeddings.
        item_features: of the first items, or None.
        user_features: of the first users, or None.
        item_identity: give each item an embedding of its own.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.1, for no layer enlarges them).
        sparse: see ``IdEmbedding``.

    Raises:
        ConfigurationError: users or items would have neither identity nor features.
    """

    history_length = 0

    def __init__(
        self,
        items: int,
        users: int = 0,
        dimension: int = 16,
        *,
        item_features: FeatureTable | None = None,
        user_features: FeatureTable | None = None,
        item_identity: bool = True,
        initial_deviation: float = 0.1,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.user_width = self.item_width = dimension + 2
        # One column more than the vector: the bias.
        self.user_inputs = EntityInputs(
            "user",
            users,
            dimension + 1,
            user_features,
            identity=users > 0,
            initial_deviation=initial_deviation,
            sparse=sparse,
        )
        self.item_inputs = EntityInputs(
            "item",
            items,
            dimension + 1,
            item_features,
            identity=item_identity,
            initial_deviation=initial_deviation,
            sparse=sparse,
        )
        check_input_width("user", self.user_inputs.width)
        check_input_width("item", self.item_inputs.width)

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """``[B, d + 2]``: the vector, the bias, and 1; see ``recascade.models.two_tower.TwoTower``."""
        vectors = _sum(self.user_inputs.blocks(context.users, extra))
        return torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1)

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """``[n, d + 2]``: the vector, 1, and the bias; see ``recascade.models.two_tower.TwoTower``."""
        if items is None:
            items = self.item_inputs.known()
        vectors = _sum(self.item_inputs.blocks(items, extra))
        return torch.cat([vectors[:, :-1], torch.ones_like(vectors[:, :1]), vectors[:, -1:]], 1)


def _sum(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else blocks[0] + blocks[1]
