from __future__ import annotations

import torch
from torch import nn

from recascade.nn.packed import PackedLayout
from recascade.nn.recurrent import packed_gru


def test_every_sequence_as_if_alone() -> None:
    torch.manual_seed(0)
    lengths = [3, 0, 7, 1, 7, 2]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events = torch.randn(sum(lengths), 4)
    gru = nn.GRU(4, 5, num_layers=2)
    states = packed_gru(gru, events, PackedLayout.of(offsets))
    for start, end in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        if end > start:
            torch.testing.assert_close(states[start:end], gru(events[start:end])[0])


def test_no_events() -> None:
    assert packed_gru(nn.GRU(4, 5), torch.empty(0, 4), PackedLayout.of(torch.tensor([0, 0]))).shape == (0, 5)
