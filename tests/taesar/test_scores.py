"""Weights of contrastive decoding: their bounds, and the release's formulas in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade_taesar.scores import Divergence, confidence, divergence, implausible

SEEDS = st.integers(0, 10_000)


def logits(seed: int, scale: float, places: int = 7, columns: int = 23) -> Tensor:
    return scale * torch.randn(places, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(seed=SEEDS, scale=st.floats(0.01, 200.0))
def test_weights_stay_within_their_bounds_whatever_the_logits(seed: int, scale: float) -> None:
    target, mixed, source = (logits(seed + number, scale).clamp(-200, 200) for number in range(3))
    alpha = confidence(target)
    assert (alpha >= 1 - 1e-5).all()
    assert (alpha < 1.5820).all()
    torch.testing.assert_close(alpha.amin(1), torch.ones(len(alpha)), atol=1e-5, rtol=0)
    kinds: tuple[Divergence, ...] = ("reversed", "standard")
    for kind in kinds:
        beta = divergence(mixed, source, kind)
        assert beta.isfinite().all()
        assert (beta >= 0).all()
        assert (beta <= 1).all()


@settings(max_examples=20)
@given(seed=SEEDS, shift=st.floats(-50.0, 50.0))
def test_weights_do_not_change_when_all_logits_grow_alike(seed: int, shift: float) -> None:
    target, mixed, source = (logits(seed + number, 2.0) for number in range(3))
    torch.testing.assert_close(confidence(target + shift), confidence(target), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(divergence(mixed + shift, source), divergence(mixed, source), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_confidence_is_the_release_formula(scale: float) -> None:
    target = logits(3, scale)
    p = np.exp(target.double().numpy())
    p /= p.sum(1, keepdims=True)
    entropy = -p * np.log(p + 1e-10)
    expected = (1 - entropy) / (1 - entropy.max(1, keepdims=True) + 1e-10)
    np.testing.assert_allclose(confidence(target).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["reversed", "standard"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_divergence_is_the_release_formula_or_that_of_jensen_and_shannon(kind: str, scale: float) -> None:
    mixed, source = logits(1, scale), logits(2, scale)
    p, q = (torch.softmax(table.double(), 1).numpy() for table in (mixed, source))
    m = (p + q) / 2
    terms = {
        "reversed": m * (np.log(m) - (np.log(p) + np.log(q)) / 2),
        "standard": (p * np.log(p / m) + q * np.log(q / m)) / 2,
    }[kind]
    expected = terms / (terms.max(1, keepdims=True) + 1e-10)
    np.testing.assert_allclose(divergence(mixed, source, kind).numpy(), expected, atol=2e-4)  # type: ignore[arg-type]


def test_equal_experts_do_not_diverge() -> None:
    same = logits(5, 3.0)
    assert (divergence(same, same.clone()) < 2e-2).all()


def test_the_plausibility_cut_is_a_share_of_the_highest_probability() -> None:
    target = logits(6, 2.0)
    p = target.softmax(1)
    assert torch.equal(implausible(target, 0.1), p < 0.1 * p.amax(1, keepdim=True))
