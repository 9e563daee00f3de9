"""Configuration of the baseline that reads several domains. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.baselines.checks import check_blocks, check_sequence_model
from recascade.contracts.checks import check_at_least
from recascade.training.config import LossConfig


@dataclass
class CrossDomainSASRecConfig:
    """SASRec that reads the mixed and the own-domain history, after ABXI (WWW 2025, arXiv 2501.15118).

    Attributes:
        dimension: width of item vectors and states; 64 (the paper: 128).
        blocks: transformer blocks; 2.
        heads: attention heads; 1.
        rank: of the domain's adapters and of its projector; 16 (the paper tunes 8 to 32).
        max_length: events of a mixed history that are read; 100.
        dropout: rate on the input and inside the blocks; 0.2.
        windows: train on the ``last`` ``max_length`` + 1 events of a user or on all of them in ``chunks``.
    """

    dimension: int = 64
    blocks: int = 2
    heads: int = 1
    rank: int = 16
    max_length: int = 100
    dropout: float = 0.2
    windows: str = "last"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_sequence_model(self.dimension, self.max_length, self.dropout, self.windows, LossConfig())
        check_blocks(self.dimension, self.blocks, self.heads)
        check_at_least("model.rank", self.rank, 1)
