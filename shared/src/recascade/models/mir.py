"""MIR, multi-level interaction re-ranking (Xi et al., SIGIR 2022, arXiv 2204.09370): candidates as a set, history as a
list."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import ListInputs
from recascade.nn.list_encoder import ListBlock, masked_mean
from recascade.nn.tower import tower


class MIR(nn.Module):
    """Attention among the candidates, a recurrent net over the history, and an affinity of both that decays with age.

    The affinity of candidate i and event t is ``tanh(v_i W h_t) · exp(-θ_u · age_t)`` with a decay θ_u >= 0 that a
    perceptron reads off the user; normalised over the events it says what of the history belongs to a candidate, and
    over the candidates what of the list belongs to an event (the paper's two directions). A perceptron scores
    candidate, set context, both findings and the user. Left out: the paper's interaction of single features. The user's
    vector is the mean of the history and the profile.

    Scores do not depend on the order of the candidates.

    Args:
        schema: sizes of the lists.
        dimension: width d.
        heads: heads of the attention among the candidates.
        hidden: widths of the last perceptron's hidden layers.
        dropout: rate inside.
        embedding_dimension: width of each embedding.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        *,
        dimension: int = 64,
        heads: int = 2,
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.1,
        embedding_dimension: int = 16,
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = ListInputs(schema, dimension, embedding_dimension, item_identity=item_identity)
        self.set_block = ListBlock(dimension, heads, 2 * dimension, dropout)
        self.history = nn.GRU(dimension, dimension, batch_first=True)
        self.affinity = nn.Linear(dimension, dimension, bias=False)
        user_width = dimension + self.inputs.profile_width
        self.decay = tower((user_width, dimension, 1))
        self.score = tower((4 * dimension + user_width, *hidden, 1), dropout=dropout)

    def list_scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``."""
        candidates, history, profile = self.inputs(batch)
        among = self.set_block(candidates, batch.candidate_mask)
        # Padding lies behind the events, so no event's state has passed it.
        events, _ = self.history(history)
        user = torch.cat([masked_mean(history, batch.history_mask), profile], -1)
        decay = nn.functional.softplus(self.decay(user))[..., None]
        near = torch.exp(-decay * batch.history_ages[:, None])
        affinity = torch.tanh(self.affinity(among) @ events.transpose(1, 2)) * near
        from_history = _shares(affinity, batch.history_mask[:, None]) @ events
        # What each event finds in the list, brought back to the candidates by the same affinities.
        from_list = _shares(affinity.transpose(1, 2), batch.candidate_mask[:, None]) @ among
        returned = _shares(affinity, batch.history_mask[:, None]) @ from_list
        everyone = user[:, None].expand(-1, candidates.shape[1], -1)
        read = torch.cat([candidates, among, from_history, returned, everyone], -1)
        return cast(Tensor, self.score(read))[..., 0]


def _shares(affinity: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last axis among the visible entries; 0 throughout where nothing is visible."""
    lowest = torch.finfo(affinity.dtype).min
    return affinity.masked_fill(~visible, lowest).softmax(-1) * visible
