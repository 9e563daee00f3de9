"""What reaches the actor, and that the filter changes nothing but the work."""

from __future__ import annotations

import pytest
import torch
from small_generators import NAMES, SIZES, item_codes, prompts, small_generator

from recascade.models.code_generator import CodeGenerator
from recascade_recast.actor import code_log_probs, gather_rows
from recascade_recast.config import UpdateConfig
from recascade_recast.objective import Clipping, divergence, policy_loss

CLIPPING = Clipping.of(UpdateConfig())
PROMPTS, WIDTH = 6, 8


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> CodeGenerator:
    return small_generator(request.param).eval()


def answers() -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    return item_codes()[torch.randint(len(item_codes()), (PROMPTS, WIDTH), generator=random)]


def pairs() -> torch.Tensor:
    """Advantages with one positive and one negative in all groups but the second."""
    advantages = torch.zeros(PROMPTS, WIDTH, dtype=torch.float64)
    advantages[:, 2], advantages[:, 5] = 1.0, -1.0
    advantages[1] = 0
    return advantages


def gradients(model: CodeGenerator, loss: torch.Tensor) -> list[torch.Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def loss_of(model: CodeGenerator, kept: torch.Tensor, *, share_context: bool = True) -> tuple[torch.Tensor, int]:
    """The summed loss of the kept answers and how many tokens the actor read for it."""
    context = prompts(PROMPTS).context
    rows = gather_rows(context, answers(), kept, pairs(), kept.any(1), share_context=share_context)
    log_probs, _ = code_log_probs(model, model.encode(rows.context), rows.codes)
    losses = policy_loss(log_probs, log_probs.detach(), rows.advantages, CLIPPING).losses
    return (losses * rows.mask).sum(), rows.tokens


def test_code_by_code_is_the_whole_and_learns_the_same(model: CodeGenerator) -> None:
    context, codes = prompts(PROMPTS).context, answers()
    parts, entropies = code_log_probs(model, model.encode(context), codes)
    whole = model.log_prob(model.encode(context), codes)
    torch.testing.assert_close(parts.sum(-1), whole)
    weights = torch.randn_like(whole)
    for one, other in zip(
        gradients(model, (parts.sum(-1) * weights).sum()), gradients(model, (whole * weights).sum()), strict=True
    ):
        torch.testing.assert_close(one, other)
    assert entropies.shape == codes.shape
    assert (entropies > 0).all() and (entropies <= torch.tensor(SIZES).log() + 1e-9).all()
    assert not entropies.requires_grad


def test_two_answers_learn_what_the_full_group_with_their_advantages_learns(model: CodeGenerator) -> None:
    """The engine's own mean over answers is width / 2 times smaller in the full group."""
    full, _ = loss_of(model, torch.ones(PROMPTS, WIDTH, dtype=torch.bool))
    expected = gradients(model, full)
    for share_context in (True, False):
        kept, _ = loss_of(model, pairs() != 0, share_context=share_context)
        torch.testing.assert_close(kept, full)
        for one, other in zip(gradients(model, kept), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_the_first_step_is_a_linear_margin(model: CodeGenerator) -> None:
    loss, _ = loss_of(model, pairs() != 0)
    log_probs = model.log_prob(model.encode(prompts(PROMPTS).context), answers())
    margin = (log_probs * pairs()).sum() / len(SIZES)
    for one, other in zip(gradients(model, loss), gradients(model, -margin), strict=True):
        torch.testing.assert_close(one, other)


def test_nothing_is_learnt_where_both_sides_write_the_same(model: CodeGenerator) -> None:
    context = prompts(3).context
    codes = torch.tensor([[[1, 2, 3], [1, 2, 4]], [[0, 1, 1], [0, 2, 1]], [[3, 3, 3], [1, 3, 3]]])
    shared = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    advantages = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(3, -1)

    def learnt(masked: bool) -> list[torch.Tensor]:
        log_probs, _ = code_log_probs(model, model.encode(context), codes)
        kept = log_probs.masked_fill(shared[:, None], 0.0) if masked else log_probs
        return gradients(model, policy_loss(kept, kept.detach(), advantages, CLIPPING).losses.sum())

    for one, other in zip(learnt(True), learnt(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_actor_tokens_do_not_grow_with_the_group() -> None:
    context = prompts(PROMPTS).context
    tokens = {True: set(), False: set()}
    for width in (4, 8, 16, 32, 64):
        kept = torch.zeros(PROMPTS, width, dtype=torch.bool)
        kept[:, [0, -1]] = True
        codes = torch.zeros(PROMPTS, width, 3, dtype=torch.int64)
        for share_context in tokens:
            rows = gather_rows(context, codes, kept, kept.float(), kept[:, 0], share_context=share_context)
            tokens[share_context].add(rows.tokens)
            assert int(rows.count) == 2 * PROMPTS
    events = context.items.numel()
    assert tokens == {True: {events + 6 * PROMPTS}, False: {2 * events + 6 * PROMPTS}}


def test_groups_of_different_width_keep_their_answers_and_no_others() -> None:
    kept = torch.zeros(PROMPTS, WIDTH, dtype=torch.bool)
    kept[0, [1, 4, 6]] = kept[3, [7]] = True
    advantages = torch.rand(PROMPTS, WIDTH)
    rows = gather_rows(prompts(PROMPTS).context, answers(), kept, advantages, kept.any(1), share_context=True)
    assert rows.mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(rows.codes[rows.mask], answers()[kept])
    assert torch.equal(rows.advantages[rows.mask], advantages[kept])
    assert not rows.advantages[~rows.mask].any()
    nobody = gather_rows(prompts(PROMPTS).context, answers(), kept & False, advantages, kept.any(1), share_context=True)
    assert nobody.tokens == 0 and nobody.count == 0


def test_requests_keep_their_own_events() -> None:
    context = prompts(PROMPTS).context
    chosen = context.take(torch.tensor([3, 3, 0]))
    for place, row in enumerate((3, 3, 0)):
        one, other = chosen.between(place, place + 1), context.between(row, row + 1)
        assert torch.equal(one.items, other.items) and torch.equal(one.users, other.users)


def surrogate(ratio: float, advantage: float, **settings: object) -> tuple[float, float]:
    """Loss and clipped share of one answer of one code whose ratio is given."""
    log_prob = torch.tensor([[ratio]]).log()
    clipping = Clipping.of(UpdateConfig(**settings))
    found = policy_loss(log_prob, torch.zeros(1, 1), torch.tensor([advantage]), clipping)
    return found.losses.item(), found.clipped.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "family", "loss", "clipped"),
    [
        (1.1, 1.0, "grpo", -1.1, 0),
        (1.5, 1.0, "grpo", -1.2, 1),
        (1.5, 1.0, "dapo", -1.28, 1),
        (0.5, 1.0, "grpo", -0.5, 0),
        (0.5, -1.0, "grpo", 0.8, 1),
        (1.5, -1.0, "grpo", 1.5, 0),
        (5.0, -1.0, "grpo", 3.0, 1),
        (1.5, 1.0, "gspo", -1.0004, 1),
    ],
)
def test_the_clip_stops_what_went_far_enough(
    ratio: float, advantage: float, family: str, loss: float, clipped: float
) -> None:
    assert surrogate(ratio, advantage, family=family) == pytest.approx((loss, clipped), rel=1e-5)


def test_settings_come_before_the_familys_clips() -> None:
    assert surrogate(1.5, 1.0, clip_high=0.4)[0] == pytest.approx(-1.4)
    assert surrogate(5.0, -1.0, dual_clip=0.0)[0] == pytest.approx(5.0)


def test_gspo_has_one_ratio_per_answer() -> None:
    log_probs = torch.tensor([[0.3, -0.3, 0.0]])
    whole = policy_loss(log_probs, torch.zeros(1, 3), torch.ones(1), Clipping.of(UpdateConfig(family="gspo")))
    assert whole.losses.item() == pytest.approx(-1.0)
    assert policy_loss(log_probs, torch.zeros(1, 3), torch.ones(1), CLIPPING).losses.item() != pytest.approx(-1.0)


def test_the_divergence_is_zero_at_the_reference_and_estimates_the_true_one() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(2, 7, dtype=torch.float64).log_softmax(-1)
    assert divergence(policy[:, None], policy[:, None]).abs().max() == 0
    estimates = divergence(policy[:, None], reference[:, None])
    assert (estimates > 0).all()
    torch.testing.assert_close((policy.exp() * estimates).sum(), (policy.exp() * (policy - reference)).sum())
