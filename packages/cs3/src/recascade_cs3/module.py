"""The two towers with their extra inputs, the ranker beside them, and what both minimise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from recascade.contracts.context import Context
from recascade.models.two_tower import AuxiliaryLoss
from recascade_cs3.backbones import build_backbone, build_ranker
from recascade_cs3.config import CS3Config

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable

INITIAL_SCALE = 5.0
"""Our choice: cosines span [-1, 1], logits should not."""


class TowerOutput(NamedTuple):
    """Of B events: ``user_vectors`` ``[B, user_width]``, ``item_vectors`` ``[B, item_width]``, ``logits`` ``[B]``."""

    user_vectors: Tensor
    item_vectors: Tensor
    logits: Tensor


class RankerOutput(NamedTuple):
    """Of B events: ``hidden`` ``[B, h]``, the last hidden layer, and ``logits`` ``[B]``."""

    hidden: Tensor
    logits: Tensor


class CS3Module(nn.Module):
    """Towers and ranker. Not a LightningModule: the online learner steps it event by event, once.

    The probability of a click is σ(κ f(u, v) + b) with f the backbone's score; κ > 0 and b are learned, because a
    cosine alone is no logit (our choice).

    Args:
        config: of the method.
        user_features: of users, or None.
        item_features: of items, or None.
    """

    def __init__(
        self,
        config: CS3Config,
        *,
        user_features: FeatureTable | None = None,
        item_features: FeatureTable | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config, user_features, item_features)
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        self.bias = nn.Parameter(torch.zeros(()))
        self.ranker = build_ranker(config, user_features, item_features) if config.uses_ranker else None

    @property
    def history_length(self) -> int:
        """Latest positives per user that the towers or the ranker read."""
        return max(self.backbone.history_length, self.config.ranker.history if self.ranker is not None else 0)

    def towers(
        self, context: Context, items: Tensor, user_extra: Tensor | None, item_extra: Tensor | None
    ) -> TowerOutput:
        """B events: each request of ``context`` with its item (int64 ``[B]``)."""
        user_vectors = self.backbone.user_vectors(context, user_extra)
        item_vectors = self.backbone.item_vectors(items, item_extra)
        score = self.backbone.score(user_vectors, item_vectors)
        return TowerOutput(user_vectors, item_vectors, self.log_scale.exp() * score + self.bias)

    def rank(self, context: Context, items: Tensor) -> RankerOutput | None:
        """The ranker's view of the same B events; None without a ranker."""
        if self.ranker is None:
            return None
        hidden = self.ranker.hidden(context, items)
        return RankerOutput(hidden, self.ranker.logit(hidden))

    def loss(
        self,
        context: Context,
        items: Tensor,
        labels: Tensor,
        towers: TowerOutput,
        ranked: RankerOutput | None,
        log_popularity: Tensor | None,
    ) -> Tensor:
        """Scalar: the towers' loss and the ranker's, which share no parameter.

        Args:
            context: the B requests.
            items: int64 ``[B]``.
            labels: float32 ``[B]``, 0 or 1.
            towers: of this batch.
            ranked: of this batch.
            log_popularity: float32 ``[B]``, log of each item's share of the positives so far, for sampled softmax.
        """
        config = self.config
        if log_popularity is not None:
            total = self._sampled_softmax(items, labels, towers, log_popularity)
        else:
            targets = labels
            if ranked is not None and config.distillation:
                soft = torch.sigmoid(ranked.logits.detach())
                targets = (1 - config.distillation) * labels + config.distillation * soft
            total = binary_cross_entropy_with_logits(towers.logits, targets)
        if isinstance(self.backbone, AuxiliaryLoss) and config.backbone.auxiliary_weight:
            auxiliary = self.backbone.auxiliary_loss(context, items, towers.user_vectors, towers.item_vectors, labels)
            total = total + config.backbone.auxiliary_weight * auxiliary
        if ranked is not None and config.ranker.name != "untrained":
            total = total + binary_cross_entropy_with_logits(ranked.logits, labels)
        return total

    def _sampled_softmax(self, items: Tensor, labels: Tensor, towers: TowerOutput, log_popularity: Tensor) -> Tensor:
        """Each positive against the batch's other positives, corrected for how often they come (Yi et al., 2019)."""
        positives = labels.nonzero()[:, 0]
        if len(positives) < 2:
            return towers.logits.sum() * 0
        users, vectors = towers.user_vectors[positives], towers.item_vectors[positives]
        logits = self.log_scale.exp() * self.backbone.scores(users, vectors) - log_popularity[positives]
        # The same item elsewhere in the batch is no negative of itself.
        same = items[positives][:, None] == items[positives]
        same.fill_diagonal_(False)
        return cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(positives)))
