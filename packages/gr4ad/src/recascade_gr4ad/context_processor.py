"""What the decoder attends to: each source of a request through a linear map of its own (GR4AD, figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.feature_encoder import FeatureEncoder
from recascade.models.history_tokens import HistoryTokens
from recascade.nn.dropout import dropout as drop
from recascade.nn.shared_context import SharedContext

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable


class ContextProcessor(nn.Module):
    """Turns B requests into keys and values, once per request; there is no encoder and no attention among events.

    The user's start token, with the user's structured features where there are any, and the events each pass a linear
    map of their own and stand in one sequence X (figure 1). X is normalised and mapped to one or several sets of keys
    and values that the decoder's layers share, as in OneRec-V2 (third-party readings; GR4AD gives no sharing factor).
    The paper's cross-domain sequences are a further source of the same kind; a ``Context`` holds one sequence.

    Args:
        history: reads users and events.
        heads: H of the decoder's attention.
        head_width: D; None for d / H.
        sets: sets of keys and values.
        user_features: of the U users, or None.
        dropout: rate on X.
    """

    def __init__(
        self,
        history: HistoryTokens,
        *,
        heads: int,
        head_width: int | None,
        sets: int,
        user_features: FeatureTable | None,
        dropout: float,
    ) -> None:
        super().__init__()
        dimension = history.places.shape[1]
        self.history = history
        self.heads = heads
        self.dropout = dropout
        self.user_features = None if user_features is None else FeatureEncoder(user_features, dimension)
        self.profile = nn.Linear(dimension, dimension)
        self.behaviours = nn.Linear(dimension, dimension)
        self.norm = nn.LayerNorm(dimension)
        width = heads * (head_width or dimension // heads)
        self.keys_values = nn.ModuleList(nn.Linear(dimension, 2 * width, bias=False) for _ in range(sets))

    def forward(self, context: Context) -> list[SharedContext]:
        """Keys and values of each set.

        Raises:
            DataError: a history is longer than ``history.max_length``.
        """
        tokens, layout = self.history(context)
        first = layout.offsets[:-1]
        profiles = tokens.index_select(0, first)
        if self.user_features is not None:
            profiles = profiles + self.user_features(context.users)
        states = self.behaviours(tokens).index_copy(0, first, self.profile(profiles))
        states = self.norm(drop(states, self.dropout if self.training else 0.0))
        contexts = []
        for linear in self.keys_values:
            both: Tensor = linear(states)
            keys, values = both.view(len(both), 2, self.heads, -1).unbind(1)
            contexts.append(SharedContext(keys, values, layout))
        return contexts
