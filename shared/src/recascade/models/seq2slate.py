"""Seq2Slate (Bello et al., 2018, arXiv 1810.02019): a pointer network that writes the list candidate by candidate."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import PersonalCandidates, UserInput
from recascade.nn.list_losses import remaining_labels
from recascade.nn.list_order import surplus_marked

State = tuple[Tensor, Tensor]


class _Read(NamedTuple):
    """Candidates as the decoder is fed them and as it points at them, and the encoder's last state."""

    entries: Tensor
    keys: Tensor
    state: State


class Seq2Slate(nn.Module):
    """An LSTM reads the list in its initial order, another one writes the new order.

    Slot j points at candidate i with ``v · tanh(W e_i + U d_j)``; what stands before is masked out. At serving every
    slot takes its most probable candidate (LibRerank's release draws one, so that its scores are random).

    Args:
        schema: sizes of the lists.
        dimension: width of inputs and states.
        dropout: rate on the candidates.
        embedding_dimension: width of each embedding.
        user: see ``PersonalCandidates``.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        *,
        dimension: int = 64,
        dropout: float = 0.1,
        embedding_dimension: int = 16,
        user: UserInput = "concatenated",
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.candidates = PersonalCandidates(schema, dimension, embedding_dimension, user, item_identity=item_identity)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.LSTM(dimension, dimension, batch_first=True)
        self.decoder = nn.LSTM(dimension, dimension, batch_first=True)
        self.begin = nn.Parameter(torch.zeros(dimension))
        self.key = nn.Linear(dimension, dimension)
        self.query = nn.Linear(dimension, dimension, bias=False)
        self.pointer = nn.Linear(dimension, 1, bias=False)

    def slot_log_shares(self, batch: RerankingBatch, prefix: Tensor) -> Tensor:
        """float ``[B, m, n]``; all slots in one pass of the decoder, because the prefix is known."""
        read = self._read(batch)
        chosen = prefix[:, :-1].clamp(min=0)[..., None].expand(-1, -1, read.entries.shape[2])
        begin = self.begin.expand(len(prefix), 1, -1)
        outputs, _ = self.decoder(torch.cat([begin, read.entries.gather(1, chosen)], 1), read.state)
        left = remaining_labels(batch.candidate_mask.float(), prefix) > 0
        # Behind the last candidate no place is left; any finite distribution will do there.
        left = left | ~left.any(2, keepdim=True)
        return self._logits(read.keys, outputs).masked_fill(~left, -torch.inf).log_softmax(2)

    def generate(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``, one step of the decoder per slot."""
        read = self._read(batch)
        left, state = batch.candidate_mask.clone(), read.state
        entry = self.begin.expand(len(left), 1, -1)
        chosen = []
        for _ in range(min(count, left.shape[1])):
            outputs, state = self.decoder(entry, state)
            place = self._logits(read.keys, outputs)[:, 0].masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
            left.scatter_(1, place, False)
            entry = read.entries.gather(1, place[..., None].expand(-1, -1, read.entries.shape[2]))
            chosen.append(place)
        return surplus_marked(torch.cat(chosen, 1), batch.candidate_mask, count)

    def _read(self, batch: RerankingBatch) -> _Read:
        entries = self.dropout(self.candidates(batch))
        # Packed, so that the last state is that of each list's last candidate and not of padding.
        lengths = batch.lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(entries, lengths, batch_first=True, enforce_sorted=False)
        outputs, state = self.encoder(packed)
        encoded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=entries.shape[1])
        return _Read(entries, self.key(encoded), state)

    def _logits(self, keys: Tensor, outputs: Tensor) -> Tensor:
        """float ``[B, m, n]``."""
        joined = torch.tanh(keys[:, None] + self.query(outputs)[:, :, None])
        logits: Tensor = self.pointer(joined)[..., 0]
        return logits
