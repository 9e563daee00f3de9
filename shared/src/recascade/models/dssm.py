"""DSSM two towers: users and items meet in one space (after Huang et al., CIKM 2013; Covington et al., RecSys 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from recascade.contracts.context import Context
from recascade.models.feature_encoder import FeatureEncoder
from recascade.models.next_item import check_lengths
from recascade.nn.causal_mean import causal_mean
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable

Similarity = Literal["inner_product", "cosine"]


class DSSM(nn.Module):
    """User tower: mean of the recent items' inputs, user id and user features, then a perceptron. Item tower: id and
    features, then a perceptron.

    The user tower reads the item tower's input vectors, so that an item's features count in histories as well.

    Args:
        items: size I of the catalogue.
        dimension: width d of the common space and of all inputs.
        hidden: widths of the hidden layers of both perceptrons; none gives towers of one linear layer.
        recent: how many of the latest events the user tower averages.
        max_length: the most events of a history.
        dropout: rate on the inputs of the user tower and on its hidden layers.
        item_features: of the I items, or None.
        user_features: of the U users, or None.
        users: number U of users that get an embedding of their own; 0 for none, so that the tower serves unknown
            users as well as known ones.
        similarity: ``cosine`` as in the paper, for a loss with a temperature of about 0.05, or ``inner_product``.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
    """

    def __init__(
        self,
        items: int,
        dimension: int = 64,
        hidden: Sequence[int] = (128,),
        recent: int = 20,
        max_length: int = 50,
        dropout: float = 0.2,
        *,
        item_features: FeatureTable | None = None,
        user_features: FeatureTable | None = None,
        users: int = 0,
        similarity: Similarity = "inner_product",
        initial_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.recent = recent
        self.dropout = dropout
        self.similarity = similarity
        self.item_embedding = nn.Parameter(torch.empty(items, dimension))
        # The last row stands for users that training never saw, whose index is -1.
        self.user_embedding = nn.Parameter(torch.empty(users + 1, dimension)) if users else None
        for embedding in (self.item_embedding, self.user_embedding):
            if embedding is not None:
                nn.init.normal_(embedding, std=initial_deviation)
        self.item_features = None if item_features is None else FeatureEncoder(item_features, dimension)
        self.user_features = None if user_features is None else FeatureEncoder(user_features, dimension)
        self.user_tower = _perceptron(dimension, hidden, dropout)
        self.item_tower = _perceptron(dimension, hidden, 0.0)

    def states(self, context: Context) -> Tensor:
        """``[T, d]`` float32; row t depends on the user and on events up to t of its own sequence.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        layout = PackedLayout.of(context.offsets)
        check_lengths(layout.longest, self.max_length)
        inputs = causal_mean(self._item_inputs(context.items), layout, self.recent)
        if self.user_embedding is not None or self.user_features is not None:
            inputs = inputs + self._user_inputs(context.users).index_select(0, layout.rows)
        return self._output(self.user_tower(dropout(inputs, self.dropout if self.training else 0.0)))

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these items (int64 ``[n]``), or all ``[I, d]``."""
        return self._output(self.item_tower(self._item_inputs(items)))

    def _item_inputs(self, items: Tensor | None) -> Tensor:
        vectors = self.item_embedding if items is None else self.item_embedding.index_select(0, items)
        return vectors if self.item_features is None else vectors + self.item_features(items)

    def _user_inputs(self, users: Tensor) -> Tensor:
        inputs = torch.zeros(len(users), self.item_embedding.shape[1], device=users.device)
        if self.user_embedding is not None:
            inputs = inputs + self.user_embedding[users]
        if self.user_features is not None:
            known = users >= 0
            inputs = inputs + self.user_features(users.clamp(min=0)) * known[:, None]
        return inputs

    def _output(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=1) if self.similarity == "cosine" else vectors


def _perceptron(dimension: int, hidden: Sequence[int], rate: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = dimension
    for wider in hidden:
        layers += [nn.Linear(width, wider), nn.ReLU(), nn.Dropout(rate)]
        width = wider
    return nn.Sequential(*layers, nn.Linear(width, dimension))
