"""Two towers whose user tower is a transformer over the recent items (after Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.entity_inputs import TowerInputs, check_input_width, side_by_side, tower_inputs
from recascade.models.two_tower import InnerProduct, Similarity, compared_by
from recascade.nn.packed import PackedLayout
from recascade.nn.tower import LayerFactory, plain_layer, tower
from recascade.nn.transformer import TransformerBlock


class TransformerTower(InnerProduct, nn.Module):
    """User tower: causal transformer blocks over the latest items' inputs, then the newest state, user id and user
    features side by side into a perceptron. Item tower: id and features, then a perceptron.

    The blocks are SASRec's, in the usual pre-norm order. The stream is as wide as an item's inputs; positions are
    counted from the newest event. A user without events has a state of 0. The composition is our choice: a stand-in for
    the transformer backbones of papers that do not publish theirs.

    Args:
        items: size I of the catalogue.
        dimension: width of the common space.
        hidden: widths of the hidden layers of both perceptrons.
        recent: how many of the latest events are read, at least 1.
        blocks: transformer blocks, at least 1.
        heads: attention heads; must divide the width of an item's inputs.
        users: number U of users that get an embedding of their own; 0 for none.
        user_layer: makes the feed-forward layers of the blocks and the perceptron's; queries, keys and values stay
            plain.
        item_layer: makes the layers of the item tower.
        similarity: ``cosine`` or ``inner_product``.
        inputs: see ``TowerInputs``; the users' extra block enters beside the newest state.

    Raises:
        ConfigurationError: nothing to read of a user's history, or heads that do not divide the width.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 16,
        hidden: Sequence[int] = (64, 32),
        recent: int = 20,
        blocks: int = 1,
        heads: int = 2,
        *,
        users: int = 0,
        user_layer: LayerFactory = plain_layer,
        item_layer: LayerFactory = plain_layer,
        similarity: Similarity = "cosine",
        **inputs: Unpack[TowerInputs],
    ) -> None:
        super().__init__()
        if recent < 1 or blocks < 1:
            raise ConfigurationError(f"A transformer tower needs events and blocks; got recent={recent}, {blocks=}.")
        self.user_width = self.item_width = dimension
        self.history_length = recent
        self.similarity = similarity
        self.item_inputs, self.user_inputs = tower_inputs(items, users, **inputs)
        width = self.item_inputs.own_width
        check_input_width("transformer", width)
        self.position_embedding = nn.Parameter(torch.empty(recent, width))
        nn.init.normal_(self.position_embedding, std=self.item_inputs.initial_deviation)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, 0.0, hidden=2 * width, order="pre_norm", layer=user_layer)
            for _ in range(blocks)
        )
        self.final_norm = nn.LayerNorm(width)
        self.user_tower = tower((width + self.user_inputs.width, *hidden, dimension), user_layer)
        self.item_tower = tower((self.item_inputs.width, *hidden, dimension), item_layer)

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        state = self._state(context.last(self.history_length))
        inputs = side_by_side([state, *self.user_inputs.blocks(context.users, extra)])
        return compared_by(self.similarity, self.user_tower(inputs))

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``."""
        return compared_by(self.similarity, self.item_tower(self.item_inputs(items, extra)))

    def _state(self, context: Context) -> Tensor:
        """``[B, width]``, of each request's newest event, 0 where there is none."""
        layout = PackedLayout.of(context.offsets)
        ages = layout.lengths.index_select(0, layout.rows) - 1 - layout.positions
        events = side_by_side(self.item_inputs.own(context.items)) + self.position_embedding.index_select(0, ages)
        for block in self.blocks[:-1]:
            events = block(events, layout)
        newest: Tensor = self.final_norm(cast(TransformerBlock, self.blocks[-1]).newest(events, layout))
        states = newest.new_zeros(context.batch_size, newest.shape[1])
        return states.index_copy(0, layout.occupied, newest)
