"""What the configurations of sequence models have in common to refuse. Importable without torch."""

from __future__ import annotations

from recascade.contracts.checks import check_at_least, check_choice
from recascade.errors import ConfigurationError
from recascade.training.config import LossConfig


def check_sequence_model(dimension: int, max_length: int, dropout: float, windows: str, loss: LossConfig) -> None:
    """Refuse values with which no model of sequences works.

    Raises:
        ConfigurationError: naming the key and its value.
    """
    check_at_least("model.dimension", dimension, 1)
    check_at_least("model.max_length", max_length, 1)
    if not 0 <= dropout < 1:
        raise ConfigurationError(f"model.dropout is {dropout}; it must be at least 0 and below 1.")
    check_choice("model.windows", windows, ("last", "chunks"))
    loss.check()


def check_blocks(dimension: int, blocks: int, heads: int) -> None:
    """Refuse attention blocks that cannot be built.

    Raises:
        ConfigurationError: naming the keys and their values.
    """
    check_at_least("model.blocks", blocks, 1)
    check_at_least("model.heads", heads, 1)
    if dimension % heads:
        raise ConfigurationError(
            f"model.dimension is {dimension} and model.heads is {heads}; the dimension must be a multiple of the heads."
        )
