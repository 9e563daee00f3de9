"""A generator's tables of codes before training: random, or what the codes say of their items."""

from __future__ import annotations

from typing import Protocol

import torch

from recascade.models.code_embedding import CodeEmbedding
from recascade.models.history_tokens import HistoryTokens
from recascade.tokenizers.code_vectors import code_vectors
from recascade.tokenizers.semantic_ids import SemanticIds


class HasCodeTables(Protocol):
    """A generator, as far as its codes go."""

    @property
    def history(self) -> HistoryTokens:
        """What reads events; its ``item_codes`` are the ids of the items."""
        ...

    @property
    def embedding(self) -> CodeEmbedding:
        """Of the codes that are read."""
        ...

    @property
    def output(self) -> CodeEmbedding:
        """Of the codes that are predicted; the levels of ``embedding`` come first."""
        ...


def start_from_content(model: HasCodeTables, ids: SemanticIds) -> None:
    """Let both tables begin as the vectors that the codes stand for (our choice).

    What is learnt of one code then holds for codes of similar items from the first step on. Hashed levels and digits
    say nothing of content, and codes that no item has nothing at all: they keep their random start.

    Args:
        model: not trained yet.
        ids: of its items.
    """
    levels = len(ids.tokenizer.quantiser.sizes)
    codes = model.history.item_codes[:, :levels]
    vectors = torch.from_numpy(ids.tokenizer.decode(codes.cpu().numpy()))
    for table in (model.embedding, model.output):
        table.start_from(code_vectors(codes, ids.sizes[:levels], vectors, table.table.shape[1]))
