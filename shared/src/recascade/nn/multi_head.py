"""The projections of multi-head attention, whose heads may together be wider than the stream."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.errors import ConfigurationError


class MultiHeadProjections(nn.Module):
    """Queries, keys and values of H heads of width D, and the matrix that joins the heads; no biases, as in T5.

    Args:
        dimension: width d of the stream.
        heads: H.
        head_width: D; None for d / H.
    """

    def __init__(self, dimension: int, heads: int, head_width: int | None = None) -> None:
        super().__init__()
        if head_width is None and dimension % heads:
            raise ConfigurationError(
                f"heads={heads} does not divide dimension={dimension}; choose a divisor or set the width of a head."
            )
        self.heads = heads
        width = heads * (head_width or dimension // heads)
        self.query = nn.Linear(dimension, width, bias=False)
        self.key_value = nn.Linear(dimension, 2 * width, bias=False)
        self.output = nn.Linear(width, dimension, bias=False)
        for matrix in (self.query.weight, *self.key_value.weight.chunk(2), self.output.weight):
            nn.init.xavier_uniform_(matrix)

    def queries(self, stream: Tensor) -> Tensor:
        """``[..., d]`` to ``[..., H, D]``."""
        query: Tensor = self.query(stream)
        return query.view(*stream.shape[:-1], self.heads, query.shape[-1] // self.heads)

    def keys_values(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., d]`` to keys and values ``[..., H, D]``."""
        both: Tensor = self.key_value(stream)
        keys, values = both.view(*stream.shape[:-1], 2, self.heads, both.shape[-1] // self.heads // 2).unbind(-3)
        return keys, values

    def join(self, attended: Tensor) -> Tensor:
        """``[..., H, D]`` to ``[..., d]``."""
        joined: Tensor = self.output(attended.flatten(-2))
        return joined
