"""Rewards and structural scores of sets of ids."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.errors import TrainingError
from recascade_recast.groups import judge
from recascade_recast.reward import first_id_reward, precision_reward
from recascade_recast.structure import closeness, distinct, shared_codes, structural_score

ABSENT = (-1, -1, -1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [P, G, M, L] and targets [P, T, L] over few codes, so that prefixes are often shared; some absent."""
    prompts, width, most, targets, levels = (draw(st.integers(1, high)) for high in (3, 5, 3, 3, 4))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    ids = torch.randint(3, (prompts, width, most, levels), generator=random)
    wanted = torch.randint(3, (prompts, targets, levels), generator=random)
    ids[torch.rand(ids.shape[:3], generator=random) < 0.2] = -1
    wanted[torch.rand(wanted.shape[:2], generator=random) < 0.2] = -1
    return ids, wanted


def by_definition(ids: torch.Tensor, targets: torch.Tensor) -> tuple[list[list[float]], list[list[float]]]:
    """Reward and score of each response with Python sets, as the paper writes them."""
    levels = ids.shape[-1]

    def phi(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        common = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=True))))
        return 10.0 ** (common - levels) if common else 0.0

    def as_set(rows: torch.Tensor) -> set[tuple[int, ...]]:
        return {tuple(row) for row in rows.tolist() if min(row) >= 0}

    rewards, scores = [], []
    for group, wanted in zip(ids, targets, strict=True):
        truth = as_set(wanted)
        sets = [as_set(answer) for answer in group]
        rewards.append([len(one & truth) / len(one) if one and truth else 0.0 for one in sets])
        scores.append(
            [sum(max(phi(p, t) for t in truth) for p in one) / len(one) if one and truth else 0.0 for one in sets]
        )
    return rewards, scores


@settings(max_examples=60)
@given(problems())
def test_reward_and_score_are_those_of_the_sets(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, targets = problem
    rewards, scores = by_definition(ids, targets)
    torch.testing.assert_close(precision_reward(ids, targets), torch.tensor(rewards))
    torch.testing.assert_close(structural_score(ids, targets), torch.tensor(scores))


@settings(max_examples=60)
@given(problems())
def test_a_miss_scores_a_tenth_at_most_and_a_full_score_is_a_hit(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    rewards, scores = precision_reward(*problem), structural_score(*problem)
    assert (scores[rewards == 0] <= 0.1 + 1e-7).all()
    assert (rewards[scores == 1] == 1).all()


def test_all_branches_of_the_papers_table() -> None:
    assert closeness(torch.tensor([3, 2, 1, 0, -1]), 3).tolist() == pytest.approx([1, 0.1, 0.01, 0, 0])
    assert closeness(torch.tensor([4, 3, 2, 1, 0]), 4).tolist() == pytest.approx([1, 0.1, 0.01, 0.001, 0])


def test_a_list_of_ids_dilutes_its_reward_and_repeating_one_does_not() -> None:
    ids = torch.tensor([[[[1, 1, 1], [1, 1, 2]], [[1, 1, 1], [1, 1, 1]], [[1, 1, 1], ABSENT], [ABSENT, ABSENT]]])
    targets = torch.tensor([[[1, 1, 1], ABSENT]])
    assert precision_reward(ids, targets).tolist() == [[0.5, 1, 1, 0]]
    assert distinct(ids).tolist() == [[[True, True], [True, False], [True, False], [False, False]]]
    assert structural_score(ids, targets)[0, 0].item() == pytest.approx(0.55)
    assert shared_codes(ids, targets).tolist() == [[[3, 2], [3, 3], [3, -1], [-1, -1]]]


def test_an_absent_target_is_nobodys() -> None:
    ids, targets = torch.tensor([[[ABSENT], [(0, 0, 0)]]]), torch.tensor([[ABSENT]])
    assert precision_reward(ids, targets).tolist() == structural_score(ids, targets).tolist() == [[0, 0]]


def test_first_id_reward_looks_at_the_first_id_that_is_there() -> None:
    ids = torch.tensor([[[ABSENT, (1, 1, 1)], [(1, 1, 2), (1, 1, 1)], [ABSENT, ABSENT]]])
    assert first_id_reward(ids, torch.tensor([[(1, 1, 1)]])).tolist() == [[1, 0, 0]]


def test_a_reward_that_is_not_a_number_is_named() -> None:
    def broken(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return precision_reward(ids, targets).where(ids[:, :, 0, 0] != 2, torch.nan)

    ids = torch.tensor([[[(0, 0, 0)], [(2, 0, 0)]]])
    with pytest.raises(TrainingError, match="'mine' gives nan for response 1 of prompt 0"):
        judge(ids, torch.tensor([[(0, 0, 0)]]), broken, "mine")
