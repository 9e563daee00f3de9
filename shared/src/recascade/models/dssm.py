"""DSSM two towers: users and items meet in one space (after Huang et al., CIKM 2013; Covington et al., RecSys 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.entity_inputs import TowerInputs, check_input_width, side_by_side, tower_inputs
from recascade.models.next_item import check_lengths
from recascade.models.two_tower import InnerProduct, Similarity, compared_by
from recascade.nn.causal_mean import causal_mean
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout
from recascade.nn.tower import LayerFactory, plain_layer, tower


class DSSM(InnerProduct, nn.Module):
    """User tower: the mean of the recent items' inputs, user id and user features side by side, then a perceptron. Item
    tower: id and features, then a perceptron. Both are the papers'; that the user tower reads the items' own input
    embeddings, so that an item's features count in histories as well, is our choice.

    It is a ``TwoTower`` for requests and a ``NextItemModel`` for sequences, with the same weights: the state after an
    event is the vector of a user whose history ends there.

    Args:
        items: size I of the catalogue.
        dimension: width of the common space.
        hidden: widths of the hidden layers of both perceptrons; none gives towers of one linear layer.
        recent: how many of the latest events the user tower averages; 0 for none.
        max_length: the most events of a history that ``states`` accepts.
        dropout: rate on the inputs of the user tower and on its hidden layers.
        users: number U of users that get an embedding of their own; 0 for none, so that the tower serves unknown
            users as well as known ones.
        user_layer: makes the layers of the user tower.
        item_layer: makes the layers of the item tower.
        similarity: ``cosine`` as in the paper, for a loss with a temperature or scale, or ``inner_product``.
        inputs: see ``TowerInputs``.

    Raises:
        ConfigurationError: a tower would read nothing.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 16,
        hidden: Sequence[int] = (64, 32),
        recent: int = 20,
        max_length: int = 50,
        dropout: float = 0.0,
        *,
        users: int = 0,
        user_layer: LayerFactory = plain_layer,
        item_layer: LayerFactory = plain_layer,
        similarity: Similarity = "cosine",
        **inputs: Unpack[TowerInputs],
    ) -> None:
        super().__init__()
        self.user_width = self.item_width = dimension
        self.history_length = recent
        self.max_length = max_length
        self.dropout = dropout
        self.similarity = similarity
        self.item_inputs, self.user_inputs = tower_inputs(items, users, **inputs)
        user_width = (self.item_inputs.own_width if recent else 0) + self.user_inputs.width
        check_input_width("user", user_width)
        check_input_width("item", self.item_inputs.width)
        self.user_tower = tower((user_width, *hidden, dimension), user_layer, dropout)
        self.item_tower = tower((self.item_inputs.width, *hidden, dimension), item_layer)

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """See ``recascade.models.two_tower.TwoTower``; a mean of no events is 0."""
        blocks = self.user_inputs.blocks(context.users, extra)
        if self.history_length:
            recent = context.last(self.history_length)
            blocks = self.item_inputs.own_mean(recent.items, recent.offsets) + blocks
        return self._user_output(blocks)

    def states(self, context: Context) -> Tensor:
        """``[T, dimension]`` float32; row t depends on the user and on events up to t of its own sequence. The extra
        block is 0.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        layout = PackedLayout.of(context.offsets)
        check_lengths(layout.longest, self.max_length)
        blocks = [block.index_select(0, layout.rows) for block in self.user_inputs.blocks(context.users)]
        if self.history_length and self.item_inputs.own_width:
            events = side_by_side(self.item_inputs.own(context.items))
            blocks.insert(0, causal_mean(events, layout, self.history_length))
        return self._user_output(blocks)

    def newest_states(self, context: Context) -> Tensor:
        """``[B, dimension]``, the state of each request's newest event, 0 where there is none."""
        return self.user_vectors(context) * (context.lengths > 0)[:, None]

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """``[n, dimension]`` vectors of these items (int64 ``[n]``, -1 for unknown), or of the whole catalogue."""
        return compared_by(self.similarity, self.item_tower(self.item_inputs(items, extra)))

    def _user_output(self, blocks: list[Tensor]) -> Tensor:
        inputs = dropout(side_by_side(blocks), self.dropout if self.training else 0.0)
        return compared_by(self.similarity, self.user_tower(inputs))
