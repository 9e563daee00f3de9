"""Answering without dropout, whatever training is under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch the model to evaluation inside the block, and back to what it was behind it."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
