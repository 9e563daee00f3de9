from __future__ import annotations

import pytest
import torch

from recascade.nn.list_encoder import ListEncoder, masked_attention, masked_mean
from recascade.nn.list_similarity import candidate_similarity


def masks(*lengths: int, width: int) -> torch.Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def test_attention_is_the_softmax_over_what_is_visible() -> None:
    query, key, value = (torch.randn(2, 3, 2, 4, dtype=torch.float64) for _ in range(3))
    visible = masks(3, 2, width=3)
    scores = torch.einsum("bmhd,bnhd->bhmn", query, key) / 2
    weights = scores.masked_fill(~visible[:, None, None], -torch.inf).softmax(-1)
    expected = torch.einsum("bhmn,bnhd->bmhd", weights, value)
    torch.testing.assert_close(masked_attention(query, key, value, visible), expected)


def test_who_sees_nothing_gets_nothing_and_passes_a_gradient() -> None:
    query, key, value = (torch.randn(2, 3, 1, 4, requires_grad=True) for _ in range(3))
    found = masked_attention(query, key, value, masks(0, 2, width=3))
    assert (found[0] == 0).all() and found.isfinite().all()
    found.sum().backward()
    assert query.grad is not None and query.grad.isfinite().all()


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_hidden_entries_change_nothing_and_order_is_not_read(blocks: int) -> None:
    torch.manual_seed(0)
    encoder = ListEncoder(blocks, 8, 2).eval()
    entries, visible = torch.randn(2, 5, 8), masks(5, 3, width=5)
    encoded = encoder(entries, visible)
    garbled = torch.where(visible[..., None], entries, 1e3)
    torch.testing.assert_close(encoder(garbled, visible)[visible], encoded[visible])
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder(entries[:1, order], visible[:1]), encoded[:1, order], rtol=1e-4, atol=1e-5)


def test_a_mean_of_nothing_is_nothing() -> None:
    entries = torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]])
    assert masked_mean(entries, masks(1, 2, width=2)).tolist() == [[1.0], [6.0]]
    assert masked_mean(entries, masks(0, 0, width=2)).tolist() == [[0.0], [0.0]]


def test_similarity_is_a_kernel() -> None:
    torch.manual_seed(0)
    fields, features = torch.randint(0, 3, (4, 6, 2)), torch.randn(4, 6, 3)
    similarity = candidate_similarity(fields, features, masks(6, 6, 4, 1, width=6))
    assert (torch.linalg.eigvalsh(similarity.double()) > -1e-6).all()
    assert (similarity.diagonal(dim1=1, dim2=2)[0] == 1).all()
    assert (similarity[3, 1:] == 0).all()
    assert torch.equal(similarity, similarity.transpose(1, 2))


def test_similarity_by_hand() -> None:
    fields = torch.tensor([[[1, 2], [1, 3], [0, 0]]])
    features = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    similarity = candidate_similarity(fields, features, torch.ones(1, 3, dtype=torch.bool))
    expected = (0.5 + 0.5**0.5) / 2
    torch.testing.assert_close(similarity[0], torch.tensor([[1, expected, 0], [expected, 1, 0], [0, 0, 1]]))
