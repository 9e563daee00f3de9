from __future__ import annotations

import numpy as np
import torch

from recascade.tokenizers.code_vectors import code_vectors
from recascade.tokenizers.residual_kmeans import ResidualKMeans


def fitted(vectors: np.ndarray) -> tuple[torch.Tensor, tuple[int, ...], torch.Tensor]:
    tokenizer = ResidualKMeans([16, 8, 4], seed=0)
    codes = tokenizer.fit(vectors)
    return torch.from_numpy(codes), tokenizer.sizes, torch.from_numpy(tokenizer.decode(codes))


def test_a_single_level_has_its_items_means_up_to_a_rotation(vectors: np.ndarray) -> None:
    codes, sizes, decoded = fitted(vectors)
    rows = code_vectors(codes[:, :1], sizes[:1], decoded, decoded.shape[1])
    centred = decoded - decoded.mean(0)
    means = torch.stack([centred[codes[:, 0] == code].mean(0) for code in range(sizes[0])])
    torch.testing.assert_close(rows @ rows.T, means @ means.T, rtol=1e-4, atol=1e-4)


def test_each_level_says_what_the_levels_before_left_over(vectors: np.ndarray) -> None:
    codes, sizes, decoded = fitted(vectors)
    rows = code_vectors(codes, sizes, decoded, decoded.shape[1])
    starts = torch.tensor([0, 16, 24])
    wanted = (decoded - decoded.mean(0)).square().sum()
    explained = [rows[(codes + starts)[:, :level]].sum(1) for level in (1, 2, 3)]
    # A rotation keeps lengths, so what is left is told by the sums' own products with the vectors: Pythagoras holds
    # level by level, because each level's means are projections.
    lengths = [part.square().sum() for part in explained]
    assert lengths[0] < lengths[1] <= wanted * (1 + 1e-5)
    assert lengths[2] > 0.9 * wanted


def test_codes_without_items_and_missing_directions_are_zeros(vectors: np.ndarray) -> None:
    codes = torch.tensor([[0], [2], [2]]).repeat(10, 1)
    rows = code_vectors(codes, (4,), torch.from_numpy(vectors[:30]), 12)
    assert rows.shape == (4, 12)
    assert rows[[0, 2]].any(1).all()
    assert not rows[[1, 3]].any()
    assert not rows[:, vectors.shape[1] :].any()


def test_the_principal_directions_are_kept() -> None:
    random = torch.Generator().manual_seed(0)
    wide = torch.randn(50, 6, generator=random) * torch.tensor([9.0, 0.1, 7.0, 0.1, 0.1, 0.1])
    rows = code_vectors(torch.arange(50)[:, None], (50,), wide, 2)
    lost = (wide - wide.mean(0)).square().sum() - rows.square().sum()
    assert 0 <= lost < 0.01 * rows.square().sum()
