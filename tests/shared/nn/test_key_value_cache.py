from __future__ import annotations

import torch

from recascade.nn.attention import causal_attention
from recascade.nn.key_value_cache import KeyValueCache
from recascade.nn.packed import PackedLayout


def test_piecewise_attention_equals_attention_over_the_whole() -> None:
    torch.manual_seed(0)
    pieces = [[2, 0, 5], [1, 1, 1], [0, 0, 3], [1, 1, 1]]
    whole = [sum(piece) for piece in zip(*pieces, strict=True)]
    offsets = torch.tensor([0, *whole]).cumsum(0)
    query, key, value = (torch.randn(sum(whole), 2, 4) for _ in range(3))
    with torch.no_grad():
        expected = causal_attention(query, key, value, PackedLayout.of(offsets))
    cache = KeyValueCache(3, 2, max(whole), 4, torch.device("cpu"), torch.float32)
    read = [0, 0, 0]
    for piece in pieces:
        chosen = torch.cat(
            [torch.arange(int(offsets[b]) + read[b], int(offsets[b]) + read[b] + piece[b]) for b in range(3)]
        )
        layout = PackedLayout.of(torch.tensor([0, *piece]).cumsum(0))
        attended = cache.attend(query[chosen], key[chosen], value[chosen], layout)
        torch.testing.assert_close(attended, expected[chosen], rtol=1e-5, atol=1e-5)
        read = [before + new for before, new in zip(read, piece, strict=True)]
    assert cache.lengths.tolist() == whole
