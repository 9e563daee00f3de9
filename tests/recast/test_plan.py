"""Repair, boundary and controls on groups of any size: what a plan must and must not change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.errors import TrainingError
from recascade_recast.advantages import group_relative
from recascade_recast.config import SignalConfig
from recascade_recast.diagnostics import diagnose, unique_rate
from recascade_recast.groups import Groups, judge
from recascade_recast.plan import Plan, Provenance, plan
from recascade_recast.repair import repair_share, repair_slots
from recascade_recast.reward import precision_reward


def judged(ids: torch.Tensor, targets: torch.Tensor) -> Groups:
    return judge(ids, targets, precision_reward, "precision")


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [P, G, M, L] and targets [P, T, L], few codes; each prompt's first target is there."""
    prompts, width, most, targets, levels = (draw(st.integers(1, high)) for high in (4, 6, 2, 3, 4))
    codes = draw(st.integers(2, 4))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    ids = torch.randint(codes, (prompts, width, most, levels), generator=random)
    wanted = torch.randint(codes, (prompts, targets, levels), generator=random)
    ids[torch.rand(ids.shape[:3], generator=random) < 0.2] = -1
    wanted[:, 1:][torch.rand(wanted[:, 1:].shape[:2], generator=random) < 0.3] = -1
    return ids, wanted


def planned(problem: tuple[torch.Tensor, torch.Tensor], **settings: object) -> tuple[Groups, Plan]:
    ids, targets = problem
    before = judged(ids, targets)
    anchors = judged(targets[:, None, :1], targets)
    random = torch.Generator().manual_seed(0)
    return before, plan(before, anchors, SignalConfig(**settings), random=random)


@settings(max_examples=60)
@given(problems())
def test_repair_touches_failed_groups_alone_and_gives_them_one_hit(problem) -> None:
    before, made = planned(problem)
    failed = ~before.hits.any(1)
    assert torch.equal(made.slots >= 0, failed)
    assert made.groups.rewards.shape == before.rewards.shape
    for name in ("rewards", "scores", "depths"):
        assert torch.equal(getattr(made.groups, name)[~failed], getattr(before, name)[~failed])
    assert (made.groups.hits.sum(1)[failed] == 1).all()
    inserted = made.groups.depths[failed].gather(1, made.slots[failed, None])
    assert (inserted == before.levels).all()
    replaced = before.scores[failed].gather(1, made.slots[failed, None])[:, 0]
    assert torch.equal(replaced, before.scores[failed].amin(1))
    assert (repair_slots(made.groups) == -1).all()


@settings(max_examples=60)
@given(problems())
def test_the_pair_is_the_best_hit_and_the_hardest_legal_miss(problem) -> None:
    _, made = planned(problem)
    groups = made.groups
    for row in range(len(groups.rewards)):
        positive, negative = int(made.pairs.positives[row]), int(made.pairs.negatives[row, 0])
        legal = (groups.rewards[row] == 0) & (groups.depths[row] < groups.levels)
        assert (negative >= 0) == bool(legal.any())
        if negative >= 0:
            assert groups.rewards[row, positive] == groups.rewards[row].max() > 0
            assert legal[negative] and (groups.scores[row, negative] >= groups.scores[row, legal]).all()


@settings(max_examples=60)
@given(problems())
def test_two_answers_of_a_learnable_group_are_kept_and_weigh_the_same(problem) -> None:
    _, made = planned(problem, weight=0.5, repaired_weight=0.25)
    learnable = made.provenance != Provenance.SKIPPED
    assert torch.equal(made.kept, made.advantages != 0)
    assert (made.kept.sum(1) == 2 * learnable).all()
    assert (made.advantages.sum(1) == 0).all()
    weights = torch.where(made.provenance == Provenance.REPAIRED, 0.25, 0.5)
    assert torch.equal(made.advantages.abs().amax(1), weights * learnable)


@settings(max_examples=60)
@given(problems(), st.integers(0, 100))
def test_the_order_of_answers_changes_nothing_but_ties(problem, seed: int) -> None:
    ids, targets = problem
    order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(seed))
    _, one = planned(problem)
    _, other = planned((ids[:, order], targets))
    assert torch.equal(one.provenance, other.provenance)
    for side, name in (("positives", "rewards"), ("negatives", "scores")):
        places = [getattr(made.pairs, side).flatten() for made in (one, other)]
        values = [
            getattr(made.groups, name).gather(1, where.clamp(min=0)[:, None])[:, 0] * (where >= 0)
            for made, where in zip((one, other), places, strict=True)
        ]
        assert torch.equal(*values)


@settings(max_examples=60)
@given(problems())
def test_a_plan_is_repeated_exactly(problem) -> None:
    for chosen in ({}, {"contrast": "random"}, {"ties": "random"}):
        _, one = planned(problem, **chosen)
        _, other = planned(problem, **chosen)
        assert torch.equal(one.advantages, other.advantages) and torch.equal(one.slots, other.slots)


@pytest.mark.parametrize("width", (4, 8, 16, 32, 64))
def test_what_reaches_the_actor_does_not_grow_with_the_group(width: int) -> None:
    ids = torch.randint(4, (20, width, 1, 3), generator=torch.Generator().manual_seed(0))
    _, made = planned((ids, torch.tensor([[[0, 1, 9]]]).expand(20, -1, -1)))
    assert int(made.kept.sum()) == 40
    assert int(planned((ids, torch.zeros(20, 1, 3).long()), contrast="group")[1].kept.sum()) == 20 * width


@pytest.mark.parametrize("unbiased", (True, False))
def test_group_advantages_have_their_closed_form(unbiased: bool) -> None:
    width = 32
    rewards = (torch.arange(width) < torch.arange(1, width)[:, None]).float()
    hits = torch.arange(1, width).float()
    factor = math.sqrt((width - 1) / width) if unbiased else 1.0
    advantages = group_relative(rewards, unbiased=unbiased)
    torch.testing.assert_close(advantages[:, 0], factor * ((width - hits) / hits).sqrt())
    torch.testing.assert_close(advantages[:, -1], -factor * (hits / (width - hits)).sqrt())
    if unbiased:
        assert advantages[0, 0].item() == pytest.approx(5.48, abs=0.005)
        assert advantages[0, -1].item() == pytest.approx(-0.177, abs=0.0005)


def test_nothing_is_learnt_from_equal_rewards() -> None:
    for rewards in (torch.zeros(2, 8), torch.ones(2, 8)):
        assert group_relative(rewards).abs().max() == 0
        assert group_relative(rewards, scaled=False).abs().max() == 0


def test_dr_grpo_only_centres() -> None:
    advantages = group_relative((torch.arange(32)[None] == 3).float(), scaled=False)
    assert advantages[0, 3].item() == pytest.approx(0.97, abs=0.002)
    assert advantages[0, 0].item() == pytest.approx(-0.03, abs=0.002)


MISSES = torch.tensor([[[[0, 1, 1]], [[0, 0, 1]], [[2, 1, 1]], [[0, 0, 2]]]])
TARGET = torch.tensor([[[0, 0, 0]]])


def test_repair_only_is_grpo_with_one_hit() -> None:
    _, made = planned((MISSES, TARGET), contrast="group")
    assert torch.equal(made.advantages, group_relative(torch.tensor([[0.0, 0, 1, 0]])))
    assert made.slots.tolist() == [2]


def test_equal_scores_replace_the_last_answer_and_take_the_first_negative() -> None:
    far = torch.tensor([[[[1, 1, 1]], [[2, 1, 1]], [[3, 1, 1]]]])
    _, made = planned((far, TARGET))
    assert made.slots.tolist() == [2]
    assert made.pairs.negatives.tolist() == [[0]]
    likely = torch.tensor([[-3.0, -1.0, -2.0]])
    before = judged(far, TARGET)
    by_probability = plan(before, judged(TARGET[:, None], TARGET), SignalConfig(ties="log-prob"), log_probs=likely)
    assert by_probability.pairs.negatives.tolist() == [[1]]


def test_without_repair_a_failed_group_is_left_out() -> None:
    _, made = planned((MISSES, TARGET), repair="never")
    assert made.provenance.tolist() == [Provenance.SKIPPED]
    assert not made.kept.any() and not made.advantages.any()


def test_always_repair_takes_the_last_place_even_after_a_hit() -> None:
    hit = torch.cat([TARGET[:, None], MISSES], dim=1)
    _, made = planned((hit, TARGET), repair="always", contrast="group")
    assert made.slots.tolist() == [4]
    assert made.groups.rewards.tolist() == [[1, 0, 0, 0, 1]]


def test_dapos_filter_leaves_equal_groups_out() -> None:
    ids = torch.cat([MISSES, torch.cat([TARGET[:, None], MISSES[:, 1:]], dim=1)])
    _, made = planned((ids, TARGET.expand(2, -1, -1)), repair="never", contrast="group", drop_equal=True)
    assert made.kept.sum(1).tolist() == [0, 4]


def test_more_negatives_share_the_weight() -> None:
    _, made = planned((MISSES, TARGET), width=3)
    assert made.advantages.tolist() == [[0, -0.5, 1, -0.5]]
    _, wide = planned((MISSES, TARGET), width=9)
    torch.testing.assert_close(wide.advantages, torch.tensor([[-1 / 3, -1 / 3, 1, -1 / 3]]))


def test_a_rightly_named_but_unrewarded_answer_is_no_negative() -> None:
    """A reward that asks for a format can give 0 to the target itself."""
    groups = judged(torch.cat([TARGET[:, None], MISSES], dim=1), TARGET)
    gated = replace(groups, rewards=torch.tensor([[0.0, 0, 0, 0, 1]]))
    anchors = judged(TARGET[:, None], TARGET)
    assert plan(gated, anchors, SignalConfig()).pairs.negatives.tolist() == [[2]]
    assert plan(gated, anchors, SignalConfig(literal_negatives=True)).pairs.negatives.tolist() == [[0]]


def test_negatives_may_have_to_be_parsed_or_near() -> None:
    ids = torch.tensor([[[[-1, -1, -1]], [[5, 5, 5]], [[5, 5, 6]], [[0, 0, 0]]]])
    assert planned((ids, TARGET))[1].pairs.negatives.tolist() == [[0]]
    assert planned((ids, TARGET), parsed_negatives=True)[1].pairs.negatives.tolist() == [[1]]
    assert planned((ids, TARGET), least_score=0.01)[1].provenance.tolist() == [Provenance.SKIPPED]


def test_a_group_of_one_has_no_boundary() -> None:
    _, made = planned((MISSES[:, :1], TARGET))
    assert made.provenance.tolist() == [Provenance.SKIPPED]
    assert not made.kept.any()


def test_an_anchor_without_reward_is_refused_only_where_it_is_needed() -> None:
    failed = judged(MISSES, TARGET)
    anchors = replace(judged(TARGET[:, None], TARGET), rewards=torch.zeros(1, 1))
    with pytest.raises(TrainingError, match="reward 'precision' gives 0 for the target of prompt 0"):
        plan(failed, anchors, SignalConfig())
    plan(failed, anchors, SignalConfig(repair="never"))
    plan(judged(torch.cat([TARGET[:, None], MISSES], dim=1), TARGET), anchors, SignalConfig())


def test_repair_fades_as_groups_become_learnable() -> None:
    assert repair_share(0.0, 0.5) == 1 and repair_share(0.25, 0.5) == 0.5 and repair_share(0.8, 0.5) == 0
    assert repair_share(0.9, 0.0) == 1
    both = judged(MISSES.expand(2, -1, -1, -1), TARGET.expand(2, -1, -1))
    anchors = judged(TARGET[:, None].expand(2, -1, -1, -1), TARGET.expand(2, -1, -1))
    made = plan(both, anchors, SignalConfig(), repairable=torch.tensor([False, True]))
    assert made.slots.tolist() == [-1, 2]


def test_figures_are_of_the_groups_before_repair() -> None:
    hit = TARGET[:, None]
    ids = torch.cat([MISSES, torch.cat([hit, MISSES[:, 1:]], dim=1), torch.cat([hit, hit, MISSES[:, 2:]], dim=1)])
    before, made = planned((ids, TARGET.expand(3, -1, -1)))
    figures = {name: value.item() for name, value in diagnose(before, made).items()}
    third = pytest.approx(1 / 3)
    for name in ("all_zero_rate", "single_hit_rate", "multi_hit_rate", "repaired_rate"):
        assert figures[name] == third
    assert figures["natural_learnable_rate"] == pytest.approx(2 / 3)
    assert figures["learnable_rate"] == 1 and figures["skipped_rate"] == 0
    assert figures["sample_zero_rate"] == 0.75
    assert [figures[f"negative_depth_{depth}"] for depth in range(3)] == [0, 0, 1]
    assert figures["negative_score"] == pytest.approx(0.1)
    assert unique_rate(ids[:, :, 0]).item() == pytest.approx(11 / 12)
