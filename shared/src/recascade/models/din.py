"""A ranker in the manner of DIN, the deep interest network (Zhou et al., KDD 2018, arXiv 1706.06978)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.entity_inputs import check_input_width, side_by_side, tower_inputs
from recascade.nn.target_attention import AttentionWeights, TargetAttention
from recascade.nn.tower import tower

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class DIN(nn.Module):
    """Candidate's attention over the recent events, crosses of user and item, and a perceptron.

    The perceptron reads user inputs, candidate's inputs, what the attention found, its product with the candidate, and
    the product of both identities where users have one. The paper's are attention and perceptron; the products, and
    tanh in the last hidden layer, so that other models may read it, are our choice (after the CS3 specification).

    Args:
        items: size I of the catalogue.
        users: number U of users that get an embedding of their own; 0 for none.
        embedding_dimension: width of the embedding of each identity and of each entity's features.
        hidden: widths of the perceptron's hidden layers with ReLU.
        hidden_width: width h of the last hidden layer, with tanh.
        history_length: how many of the latest events are read.
        attention_hidden: width of the activation unit's hidden layer.
        attention_weights: see ``TargetAttention``.
        item_features: of the first items, or None.
        user_features: of the first users, or None.
        item_identity: give each item an embedding of its own.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
        sparse: see ``IdEmbedding``.

    Raises:
        ConfigurationError: items would have no inputs.
    """

    def __init__(
        self,
        items: int,
        users: int = 0,
        *,
        embedding_dimension: int = 16,
        hidden: Sequence[int] = (64,),
        hidden_width: int = 16,
        history_length: int = 10,
        attention_hidden: int = 16,
        attention_weights: AttentionWeights = "plain",
        item_features: FeatureTable | None = None,
        user_features: FeatureTable | None = None,
        item_identity: bool = True,
        initial_deviation: float = 0.02,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_width = hidden_width
        self.history_length = history_length
        self.item_inputs, self.user_inputs = tower_inputs(
            items,
            users,
            embedding_dimension=embedding_dimension,
            item_features=item_features,
            user_features=user_features,
            item_identity=item_identity,
            initial_deviation=initial_deviation,
            sparse=sparse,
        )
        check_input_width("item", self.item_inputs.width)
        self.attention = TargetAttention(self.item_inputs.width, attention_hidden, attention_weights)
        self.crosses_identities = users > 0 and item_identity
        width = self.user_inputs.width + 3 * self.item_inputs.width + embedding_dimension * self.crosses_identities
        self.perceptron = tower((width, *hidden, hidden_width))
        self.output = nn.Linear(hidden_width, 1)

    def hidden(self, context: Context, items: Tensor) -> Tensor:
        """``[B, h]`` or ``[B, k, h]`` in (-1, 1): the last hidden layer.

        Args:
            context: B requests.
            items: int64 ``[B]``, one candidate per request, or ``[B, k]``; -1 for unknown.
        """
        if items.dim() == 1:
            return self.hidden(context, items[:, None])[:, 0]
        requests, count = items.shape
        recent = context.last(self.history_length)
        # Candidates and events in one look-up: the gradient of an embedding table is dear.
        inputs = self.item_inputs.own(torch.cat([items.flatten(), recent.items]))
        vectors = side_by_side(inputs)
        candidates = vectors[: items.numel()].view(requests, count, -1)
        events = vectors[items.numel() :]
        interest = self.attention(events, recent.offsets, recent.rows, candidates)
        blocks = [candidates, interest, interest * candidates]
        if self.user_inputs.width:
            user = self.user_inputs.own(context.users)
            blocks += [block[:, None].expand(-1, count, -1) for block in user]
            if self.crosses_identities:
                blocks.append(user[0][:, None] * candidates[..., : user[0].shape[1]])
        return torch.tanh(self.perceptron(torch.cat(blocks, 2)))

    def logit(self, hidden: Tensor) -> Tensor:
        """``[...]``, log-odds of a positive label, from hidden layers ``[..., h]``."""
        return cast(Tensor, self.output(hidden))[..., 0]

    def score(self, context: Context, items: Tensor) -> Tensor:
        """``[B, k]`` log-odds; see ``recascade.contracts.ranker.Ranker``."""
        return self.logit(self.hidden(context, items))
