"""IntTower: two towers with an early interaction of several vectors per side (Li et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.entity_inputs import TowerInputs, check_input_width, side_by_side, tower_inputs
from recascade.models.two_tower import Similarity, compared_by
from recascade.nn.squeeze_excitation import LightSqueezeExcitation
from recascade.nn.tower import LayerFactory, plain_layer


class IntTower(nn.Module):
    """Light-SE weighs the input fields, perceptrons follow, and every user layer meets the last item layer in heads.

    FE block, the paper's early interaction: user layer l is projected to H vectors, the item's last layer to H vectors,
    all of the width ``dimension``, and the score is the sum over all user vectors of the greatest inner product with an
    item vector, here divided by their number (our choice; a constant factor that keeps cosines within -1 and 1).

    **This is not one inner product.** An index over item vectors finds the best items of one user vector at a time, so
    the model suits a few candidates (pre-ranking); for retrieval, search with each user vector and score again. Only
    with ``heads=1`` the greatest is the only one: the user vectors are then averaged, and
    ``single_inner_product`` is True.

    CIR, the contrastive regulariser, is the auxiliary loss: the positive item against the batch's other items, by the
    model's own score with a temperature (the form is the paper's; negatives, temperature and weight are our choice).

    Args:
        items: size I of the catalogue.
        dimension: width of each head's vector.
        hidden: widths of the layers of both perceptrons, at least one.
        recent: how many of the latest events the user tower averages; 0 for none.
        heads: H.
        contrastive_weight: of the CIR loss.
        contrastive_temperature: of the CIR loss.
        users: number U of users that get an embedding of their own; 0 for none.
        user_layer: makes the layers of the user perceptron; Light-SE and the projections to heads stay plain.
        item_layer: makes the layers of the item perceptron.
        similarity: ``cosine`` (each head's vector has unit length) or ``inner_product``.
        inputs: see ``TowerInputs``; an extra block is one field of the Light-SE.

    Raises:
        ConfigurationError: a tower would read nothing, or has no layer.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 16,
        hidden: Sequence[int] = (64, 32),
        recent: int = 20,
        heads: int = 2,
        *,
        contrastive_weight: float = 0.1,
        contrastive_temperature: float = 0.1,
        users: int = 0,
        user_layer: LayerFactory = plain_layer,
        item_layer: LayerFactory = plain_layer,
        similarity: Similarity = "cosine",
        **inputs: Unpack[TowerInputs],
    ) -> None:
        super().__init__()
        if not hidden or heads < 1:
            raise ConfigurationError(f"IntTower needs a hidden layer and a head; got hidden={list(hidden)}, {heads=}.")
        self.dimension = dimension
        self.user_width = dimension if heads == 1 else len(hidden) * heads * dimension
        self.item_width = heads * dimension
        self.single_inner_product = heads == 1
        self.history_length = recent
        self.contrastive_weight = contrastive_weight
        self.contrastive_temperature = contrastive_temperature
        self.similarity = similarity
        self.item_inputs, self.user_inputs = tower_inputs(items, users, **inputs)
        user_fields = [*(self.item_inputs.own_widths if recent else ()), *self.user_inputs.widths]
        check_input_width("user", sum(user_fields))
        check_input_width("item", self.item_inputs.width)
        self.user_excitation = LightSqueezeExcitation(user_fields)
        self.item_excitation = LightSqueezeExcitation(self.item_inputs.widths)
        self.user_layers = _layers((sum(user_fields), *hidden), user_layer)
        self.item_layers = _layers((self.item_inputs.width, *hidden), item_layer)
        self.user_heads = nn.ModuleList(nn.Linear(width, heads * dimension) for width in hidden)
        self.item_heads = nn.Linear(hidden[-1], heads * dimension)

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """``[B, user_width]``: H vectors of each layer, layer by layer, or with one head the mean over layers."""
        blocks = self.user_inputs.blocks(context.users, extra)
        if self.history_length:
            recent = context.last(self.history_length)
            blocks = self.item_inputs.own_mean(recent.items, recent.offsets) + blocks
        hidden = self.user_excitation(side_by_side(blocks))
        heads = []
        for layer, project in zip(self.user_layers, self.user_heads, strict=True):
            hidden = layer(hidden)
            heads.append(project(hidden))
        vectors = self._compared(torch.cat(heads, 1))
        return vectors.mean(1) if self.single_inner_product else vectors.flatten(1)

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """``[n, item_width]``: H vectors of each item; see ``recascade.models.two_tower.TwoTower``."""
        hidden = self.item_excitation(self.item_inputs(items, extra))
        for layer in self.item_layers:
            hidden = layer(hidden)
        return self._compared(self.item_heads(hidden)).flatten(1)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        products = self._heads(users) @ self._heads(items).transpose(1, 2)
        return products.amax(2).mean(1)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        own, by_head = users.reshape(-1, self.dimension), self._heads(items).unbind(1)
        # The greatest over a last axis of a few heads takes twice the time of comparing one head's table with the next.
        greatest = own @ by_head[0].T
        for head in by_head[1:]:
            greatest = torch.maximum(greatest, own @ head.T)
        return greatest.view(len(users), -1, len(items)).mean(1)

    def auxiliary_loss(
        self, context: Context, items: Tensor, users: Tensor, item_vectors: Tensor, labels: Tensor
    ) -> Tensor:
        """See ``recascade.models.two_tower.AuxiliaryLoss``: CIR, the mean over positive events.

        Events of one user, or of one item, whose vectors are equal are compared once: a micro-batch of a stream holds
        far fewer users and items than events. The gradient of such vectors goes to one of them, which is the same for
        the weights, as equal vectors of one user or item come from equal inputs.
        """
        positive = labels.nonzero()[:, 0]
        if not len(positive):
            return users.new_zeros(())
        user_events, user_of = _distinct(context.users[positive], users[positive].detach())
        item_events, item_of = _distinct(items, item_vectors.detach())
        similarities = self.scores(users[positive[user_events]], item_vectors[item_events])
        # An item of several events is as many of the other items, but the positive item counts once.
        repeated = torch.bincount(item_of, minlength=len(item_events)).log()
        rows, own = torch.arange(len(positive), device=items.device), item_of[positive]
        logits = (similarities / self.contrastive_temperature + repeated).index_select(0, user_of)
        logits[rows, own] -= repeated[own]
        others = items[positive, None] == items[item_events]
        others[rows, own] = False
        return self.contrastive_weight * cross_entropy(logits.masked_fill_(others, -torch.inf), own)

    def _heads(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(len(vectors), -1, self.dimension)

    def _compared(self, vectors: Tensor) -> Tensor:
        """``[n, heads, dimension]``, each head's vector by itself of the length that the similarity wants."""
        return compared_by(self.similarity, self._heads(vectors).flatten(0, 1)).view(len(vectors), -1, self.dimension)


def _layers(widths: Sequence[int], layer: LayerFactory) -> nn.ModuleList:
    """Layers that all end with an activation."""
    return nn.ModuleList(
        layer(inputs, outputs, activation=True, first=number == 0)
        for number, (inputs, outputs) in enumerate(pairwise(widths))
    )


def _distinct(ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """One event for each identifier, int64 ``[d]``, and the place among them for each of the n events, int64 ``[n]``.

    Where events of one identifier have different vectors (``[n, w]``), every event is its own.
    """
    names, places = torch.unique(ids, return_inverse=True)
    every = torch.arange(len(ids), device=ids.device)
    events = torch.empty_like(names).scatter_(0, places, every)
    return (events, places) if torch.equal(vectors[events[places]], vectors) else (every, every)
