"""Rules of commitment: distinct choices, and how good they are."""

from __future__ import annotations

import itertools

import pytest
import torch

from recascade_psad.commit import commit

RULES = ("greedy", "confidence", "hungarian")


def draw(seed: int, slots: int = 4, candidates: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, slots, candidates, generator=generator)
    free = torch.rand(50, candidates, generator=generator) < 0.6
    free[:, 0] = True
    return logits, free


@pytest.mark.parametrize("rule", RULES)
def test_choices_are_free_distinct_and_as_many_as_possible(rule: str) -> None:
    for seed in range(5):
        logits, free = draw(seed)
        for chosen, allowed in zip(commit(logits, free, rule).tolist(), free, strict=True):
            filled = min(4, int(allowed.sum()))
            assert chosen[filled:] == [-1] * (4 - filled)
            assert len(set(chosen[:filled])) == filled
            assert all(allowed[candidate] for candidate in chosen[:filled])


def test_all_rules_agree_on_a_single_slot() -> None:
    logits, free = draw(0, slots=1)
    first, *others = (commit(logits, free, rule) for rule in RULES)
    assert all(torch.equal(first, other) for other in others)


def test_the_assignment_is_the_best_there_is() -> None:
    logits = draw(1)[0][:10]
    free = torch.ones(10, 7, dtype=torch.bool)

    def worth(chosen: torch.Tensor) -> torch.Tensor:
        return logits.gather(2, chosen[..., None]).sum((1, 2))

    best = worth(commit(logits, free, "hungarian"))
    assert (best >= worth(commit(logits, free, "greedy")) - 1e-6).all()
    assert (best > worth(commit(logits, free, "greedy")) + 1e-3).any()
    for row in range(10):
        every = max(
            sum(float(logits[row, slot, candidate]) for slot, candidate in enumerate(chosen))
            for chosen in itertools.permutations(range(7), 4)
        )
        assert float(best[row]) == pytest.approx(every, abs=1e-5)


def test_the_most_confident_slot_chooses_first_and_the_greedy_first_slot() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.0], [3.0, 0.0, 1.0]]])
    free = torch.ones(1, 3, dtype=torch.bool)
    assert commit(logits, free, "greedy").tolist() == [[0, 2]]
    assert commit(logits, free, "confidence").tolist() == [[1, 0]]
    assert commit(logits, free, "hungarian").tolist() == [[1, 0]]
