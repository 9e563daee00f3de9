"""A GRU over packed sequences, without padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recascade.nn.packed import PackedLayout


def packed_gru(gru: nn.GRU, events: Tensor, layout: PackedLayout) -> Tensor:
    """Hidden states of the last layer for every event.

    Args:
        gru: unidirectional, of any number of layers.
        events: ``[T, d]`` packed inputs.
        layout: of the T events.

    Returns:
        ``[T, hidden]``; row t depends on events up to t of its own sequence.
    """
    if len(events) == 0:
        return events.new_zeros(0, gru.hidden_size)
    # PyTorch wants time-major order: the first events of all sequences, longest first, then the second, and so on.
    rank = torch.empty_like(layout.order)
    rank[layout.order] = torch.arange(len(rank), device=rank.device)
    by_time = torch.argsort(layout.positions * len(rank) + rank.index_select(0, layout.rows))
    still_running = torch.bincount(layout.positions).cpu()
    hidden, _ = gru(PackedSequence(events.index_select(0, by_time), still_running))
    back = torch.empty_like(by_time)
    back[by_time] = torch.arange(len(back), device=back.device)
    states: Tensor = hidden.data.index_select(0, back)
    return states
