"""The position-wise part of a pre-norm transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.dropout import dropout_add, relu_dropout


class FeedForward(nn.Module):
    """``x + dropout(contract(dropout(relu(expand(norm(x))))))``, without biases, as in T5 (which normalises by the root
    mean square only; the layer norm is our choice, PyTorch's fastest on a CPU).

    Args:
        dimension: width d of the stream.
        hidden: inner width.
        dropout: rate on the inner and the outer layer.
    """

    def __init__(self, dimension: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(dimension)
        self.expand = nn.Linear(dimension, hidden, bias=False)
        self.contract = nn.Linear(hidden, dimension, bias=False)
        for linear in (self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, stream: Tensor) -> Tensor:
        """``[..., d]`` to ``[..., d]``."""
        rate = self.dropout if self.training else 0.0
        hidden = relu_dropout(self.expand(self.norm(stream)), rate)
        return dropout_add(self.contract(hidden), stream, rate)
