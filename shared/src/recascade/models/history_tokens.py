"""A user's history as a generator reads it: the codes of its items, with their places."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.errors import DataError
from recascade.models.code_embedding import CodeEmbedding
from recascade.models.next_item import check_lengths
from recascade.nn.packed import PackedLayout

Reading = Literal["codes", "items"]


class HistoryTokens(nn.Module):
    """Vectors of a start token and then of each event's codes, oldest event first.

    The start token belongs to the user where users are hashed into buckets (TIGER: 2,000 of them), else it is the same
    for all.

    Args:
        codes: int64 ``[I, L]``, the ids of the items.
        embedding: of the codes.
        max_length: the most events of a history.
        reading: ``codes`` makes a token of every code, as TIGER; ``items`` one token of an item, the sum of its codes'
            vectors: L times fewer tokens (our choice, for speed).
        from_end: count places from the newest event, which every history has, instead of from the oldest. Only for
            models that read a history as a whole: from the end, a state would know how many events are to follow it.
        user_buckets: start tokens of users; 0 for one for all.
    """

    item_codes: Tensor

    def __init__(
        self,
        codes: Tensor,
        embedding: CodeEmbedding,
        max_length: int,
        *,
        reading: Reading = "codes",
        from_end: bool = False,
        user_buckets: int = 0,
    ) -> None:
        super().__init__()
        limits = torch.tensor(embedding.sizes)
        if codes.dim() != 2 or codes.shape[1] != len(limits) or bool(((codes < 0) | (codes >= limits)).any()):
            raise DataError(
                f"Every item needs an id of {len(limits)} codes within {list(embedding.sizes)}; tokenise all items of "
                "the vocabulary first."
            )
        self.register_buffer("item_codes", codes.long(), persistent=False)
        self.embedding = embedding
        self.max_length = max_length
        self.per_event = codes.shape[1] if reading == "codes" else 1
        self.from_end = from_end
        dimension = embedding.table.shape[1]
        self.places = nn.Parameter(torch.empty(max_length, dimension))
        # The last row is for users that training never saw, whose index is -1.
        self.starts = nn.Parameter(torch.empty(user_buckets + 1, dimension))
        for table in (self.places, self.starts):
            nn.init.normal_(table, std=0.02)

    def forward(self, context: Context) -> tuple[Tensor, PackedLayout]:
        """``[B + T * per_event, d]``, packed, and its layout.

        Raises:
            DataError: a history is longer than ``max_length``.
        """
        events = PackedLayout.bounded(context.offsets, context.items.shape[0], self.max_length)
        check_lengths(events.longest, self.max_length)
        places = events.positions
        if self.from_end:
            places = events.lengths.index_select(0, events.rows) - 1 - places
        vectors = self.embedding(self.item_codes.index_select(0, context.items))
        if self.per_event == 1:
            vectors = vectors.sum(1, keepdim=True)
        vectors = (vectors + self.places.index_select(0, places)[:, None]).flatten(0, 1)
        before = torch.arange(context.batch_size, device=places.device)
        rows = events.rows.repeat_interleave(self.per_event)
        tokens = vectors.new_empty(len(before) + len(vectors), vectors.shape[1])
        tokens = tokens.index_copy(0, torch.arange(len(vectors), device=places.device) + rows + 1, vectors)
        tokens = tokens.index_copy(0, context.offsets[:-1] * self.per_event + before, self._start_vectors(context))
        offsets = context.offsets * self.per_event + torch.arange(len(before) + 1, device=before.device)
        return tokens, PackedLayout.bounded(offsets, tokens.shape[0], 1 + self.max_length * self.per_event)

    def tokens_until(self, events: Tensor) -> Tensor:
        """How many tokens a history of so many events has, with the start token."""
        return 1 + events * self.per_event

    def _start_vectors(self, context: Context) -> Tensor:
        buckets = len(self.starts) - 1
        if not buckets:
            return self.starts.expand(context.batch_size, -1)
        # Vocabularies are seeded permutations, so the remainder spreads users as a hash would.
        return self.starts.index_select(0, torch.where(context.users < 0, buckets, context.users % buckets))
