"""The reinforcement step: what it generates, what it learns from it, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from counting_backend import CountingBackend
from small_generators import ITEMS, LENGTH, NAMES, SIZES, item_codes, prompts, small_generator

from recascade.errors import ConfigurationError, DataError, TrainingError
from recascade.models.decoder_only import DecoderOnly
from recascade.nn.prefix_trie import PrefixTrie
from recascade.settings import compose_sections
from recascade.training.config import TrainerConfig
from recascade_recast import reward
from recascade_recast.actor import code_log_probs
from recascade_recast.config import ReCastConfig
from recascade_recast.method import VARIANTS
from recascade_recast.module import ReCastModule


def settings(variant: str = "default", **overrides: Any) -> ReCastConfig:
    chosen = {"rollout.width": 8, **VARIANTS[variant], **{key.replace("__", "."): v for key, v in overrides.items()}}
    return compose_sections({"model": ReCastConfig}, {f"model.{key}": value for key, value in chosen.items()})["model"]


def module(variant: str = "default", name: str = "decoder-only", **overrides: Any) -> ReCastModule:
    model = small_generator(name, dtype=torch.float32).eval()
    return ReCastModule(model, item_codes(), settings(variant, **overrides), TrainerConfig())


def hits(batch_size: int = 6) -> torch.Tensor:
    """The targets of the prompts."""
    return item_codes()[prompts(batch_size).targets]


@pytest.mark.parametrize("search", ("beam", "sample"))
@pytest.mark.parametrize("name", NAMES)
def test_two_answers_per_group_go_on_the_target_and_a_miss(name: str, search: str) -> None:
    torch.manual_seed(0)
    rows, answers = module(name=name, rollout__search=search).generate(prompts())
    assert answers == 48
    assert rows.codes.shape == (6, 2, 3) and rows.mask.all()
    assert rows.advantages.sort(dim=1).values.tolist() == [[-1, 1]] * 6
    assert torch.equal(rows.codes[rows.advantages > 0], hits())
    assert not (rows.codes[rows.advantages < 0] == hits()).all(-1).any()


def test_generation_does_not_depend_on_what_is_kept() -> None:
    """The misses that go on are among the same beams, and the search is asked for the same work."""
    asked = []

    class Counting(DecoderOnly):
        def step(self, state: Any, beams: Any) -> torch.Tensor:
            asked[-1] += beams.codes.shape[0] * beams.codes.shape[1]
            return super().step(state, beams)

    for width, contrast in ((2, "boundary"), (4, "boundary"), (2, "group")):
        asked.append(0)
        made = module(signal__width=width, signal__contrast=contrast)
        made.model.__class__ = Counting
        made.generate(prompts())
    assert asked[0] == asked[1] == asked[2] > 0


def test_a_step_runs_without_dropout_and_training_mode_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made, modes = module(), []
    made.model.train()

    def generate(batch: Any) -> tuple[Any, int]:
        modes.append(made.model.training)
        return ReCastModule.generate(made, batch)

    def update(rows: Any, answers: int) -> torch.Tensor:
        modes.append(made.model.training)
        return torch.zeros(())

    monkeypatch.setattr(made, "generate", generate)
    monkeypatch.setattr(made, "update", update)
    made.training_step(prompts(), 0)
    assert modes == [False, False] and made.model.training


def test_failed_groups_are_left_out_where_nothing_repairs_them() -> None:
    rows, _ = module("contrast-only").generate(prompts())
    failed = 6 - rows.codes.shape[0]
    assert failed > 0
    everything, answers = module("grpo").generate(prompts())
    assert int(everything.count) == answers == 48
    filtered, _ = module("dapo-filter").generate(prompts())
    assert filtered.codes.shape[0] == 6 - failed and (filtered.mask.sum(1) == 8).all()


def test_always_gt_puts_the_target_into_the_last_place() -> None:
    rows, _ = module("always-gt").generate(prompts())
    assert torch.equal(rows.codes[:, -1], hits())
    assert (rows.advantages[:, -1] > 0).all()


def test_the_printed_denominator_counts_all_that_was_generated() -> None:
    gradients = {}
    for denominator in ("active", "group"):
        made = module(update__denominator=denominator, update__divergence=0.0)
        rows, answers = made.generate(prompts())
        log_probs, _ = code_log_probs(made.generator, made.generator.encode(rows.context), rows.codes)
        loss = made._loss(rows, log_probs, log_probs.detach(), None, answers)
        (gradients[denominator],) = torch.autograd.grad(loss, made.model.output.table)
    torch.testing.assert_close(gradients["active"] * (12 / 48), gradients["group"])


def test_the_compiler_sees_what_is_learnt_from_and_changes_nothing() -> None:
    backend, weights = CountingBackend(), []
    for trainer in (TrainerConfig(), TrainerConfig(compile=True, compile_backend=backend)):  # type: ignore[arg-type]
        made = ReCastModule(small_generator(dtype=torch.float32).eval(), item_codes(), settings(), trainer)
        torch.manual_seed(0)
        rows, _ = made.generate(prompts())
        assert backend.graphs == 0
        weights.append(made._answer_log_probs(made.generator, rows.context, rows.codes)[0])
    torch.testing.assert_close(*weights)
    assert backend.graphs > 0


def test_figures_count_what_was_done() -> None:
    made = module()
    made.generate(prompts())
    means = made.tally.take_means()
    assert means["all_zero_rate"] + means["single_hit_rate"] == pytest.approx(1)
    assert means["valid_rate"] == means["unique_rate"] == means["learnable_rate"] == 1
    assert means["repaired_rate"] == means["all_zero_rate"] > 0
    unconstrained = module(rollout__constrained=False)
    unconstrained.generate(prompts())
    assert unconstrained.tally.take_means()["valid_rate"] < 1


def test_adaptive_repair_follows_the_natural_rate() -> None:
    made = module("adaptive-repair")
    made.natural_rate.fill_(1.0)
    made.generate(prompts())
    assert made.tally.take_means()["repaired_rate"] == 0
    assert made.natural_rate < 1
    made.natural_rate.fill_(0.0)
    made.generate(prompts())
    assert made.tally.take_means()["repair_share"] == 1
    assert "natural_rate" in made.state_dict()


def test_the_optimizer_is_the_updates_and_not_the_trainers() -> None:
    made = module(update__learning_rate=0.5, update__warmup_steps=4, update__weight_decay=0.25)
    optimizer = made.configure_optimizers()
    assert optimizer["optimizer"].defaults["weight_decay"] == 0.25
    # The first of four steps of warm-up.
    assert optimizer["optimizer"].param_groups[0]["lr"] == 0.5 / 4


def test_scaled_gradients_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.precision is 16-mixed"):
        ReCastModule(small_generator(), item_codes(), settings(), TrainerConfig(precision="16-mixed"))


def test_a_reference_of_other_ids_is_refused() -> None:
    other = DecoderOnly(item_codes(), (4, 5, 7), dimension=8, heads=2, hidden=8, max_length=LENGTH)
    with pytest.raises(ConfigurationError, match=r"ids over \[4, 5, 7\] codes per level"):
        ReCastModule(small_generator(), item_codes(), settings(), TrainerConfig(), reference=other)
    with pytest.raises(ConfigurationError, match="Linear, is no generator"):
        ReCastModule(small_generator(), item_codes(), settings(), TrainerConfig(), reference=torch.nn.Linear(2, 2))


def test_a_target_outside_the_tree_is_refused() -> None:
    batch = prompts()
    others = torch.tensor([item for item in range(ITEMS) if item not in batch.targets.tolist()])
    tree = PrefixTrie.build(item_codes()[others], SIZES, others)
    made = ReCastModule(small_generator(), item_codes(), settings(), TrainerConfig(), tree=tree)
    with pytest.raises(DataError, match="target's id is not among those that may be written"):
        made.generate(batch)


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "'gated' gives nan"), (0.0, "'gated' gives 0")])
def test_a_reward_that_pays_nothing_or_nonsense_is_refused(
    value: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gated(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.full(ids.shape[:2], value)

    monkeypatch.setattr("recascade_recast.module.REWARDS", {**reward.REWARDS, "gated": gated})
    made = module()
    made.config.signal.reward = "gated"
    with pytest.raises(TrainingError, match=message):
        made.generate(prompts())


def test_the_reference_is_the_model_before_training() -> None:
    model = small_generator()
    kept = copy.deepcopy(model.state_dict())
    made = ReCastModule(model, item_codes(), settings(), TrainerConfig())
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    assert made.reference is not None
    assert all(torch.equal(value, kept[name]) for name, value in made.reference.state_dict().items())
    assert not any(parameter.requires_grad for parameter in made.reference.parameters())
    assert ReCastModule(model, item_codes(), settings(update__divergence=0.0), TrainerConfig()).reference is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rollout__width", 1, "group of one"),
        ("signal__width", 9, "more answers than"),
        ("signal__repair", "all-zeros", "Did you mean 'all-zero'"),
        ("signal__adaptive", 2.0, "from 0 to 1"),
        ("signal__drop_equal", True, "filters groups"),
        ("update__dual_clip", 0.5, "above 1, or 0"),
        ("rollout__temperature", 0.0, "above 0"),
        ("reinforced_users", 1.0, "below 1"),
        ("generator__heads", 3, "multiple of the heads"),
    ],
)
def test_settings_that_cannot_work_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings(**{key: value})
