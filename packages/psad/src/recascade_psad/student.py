"""The student: one score per candidate in one pass, then a sort (paper: its role; form inferred)."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.list_encoder import ListBlock, masked_attention, masked_mean
from recascade.nn.tower import tower
from recascade_psad.config import PSADConfig
from recascade_psad.joined_linear import JoinedLinear
from recascade_psad.user_profile_network import UserView


class CandidateContext(nn.Module):
    """What each candidate finds among the others: ``c_i = Σ_j softmax_j(W_q x_i · W_k x_j) x_j``, per head; a
    transformer block without its joining matrix, values' matrix and position-wise part, at a quarter of its cost (our
    choice).

    Args:
        dimension: width d.
        heads: attention heads; each weighs its share of the coordinates.
    """

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(dimension, 2 * dimension, bias=False)

    def forward(self, candidates: Tensor, mask: Tensor) -> Tensor:
        """``[B, n, d]`` to ``[B, n, d]``; mask bool ``[B, n]``."""
        queries, keys = self.query_key(candidates).chunk(2, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in (queries, keys, candidates))
        return masked_attention(query, key, value, mask).flatten(-2)


class Student(nn.Module):
    """``s_i = MLP([x̃_i ‖ u ‖ c])``, where c is what the candidate knows of the others.

    That is nothing, or their mean (``pool``), or beside the mean what it finds among them (``attention``); or all
    candidates first pass a transformer block over the list, and c is the mean behind it (``transformer``).

    Args:
        config: sizes, and the kind of context.
    """

    def __init__(self, config: PSADConfig) -> None:
        super().__init__()
        width, context = config.dimension, config.student.context
        self.block = ListBlock(width, config.heads, config.hidden, config.dropout) if context == "transformer" else None
        self.attention = CandidateContext(width, config.heads) if context == "attention" else None
        self.pooled = context != "none"
        hidden = [*config.student.hidden, 1]
        parts = 2 + self.pooled + (self.attention is not None)
        self.join = JoinedLinear([width] * parts, hidden[0])
        self.rest = (
            nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout), tower(hidden, dropout=config.dropout))
            if len(hidden) > 1
            else None
        )

    def forward(self, view: UserView) -> Tensor:
        """float ``[B, n]``, greater is better; without meaning in padding."""
        candidates, mask = view.candidates, view.mask
        if self.block is not None:
            candidates = self.block(candidates, mask)
        parts = [candidates, view.intent[:, None]]
        if self.pooled:
            parts.append(masked_mean(candidates, mask)[:, None])
        if self.attention is not None:
            parts.append(self.attention(candidates, mask))
        scores: Tensor = self.join(*parts)
        if self.rest is not None:
            scores = self.rest(scores)
        return scores[..., 0]
