"""ReCast under TRL: what comes back from the wide search, and a tiny model really trained where TRL is installed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recascade.errors import ConfigurationError, DataError
from recascade_recast.adapters.anchors import put_id
from recascade_recast.adapters.code_tokens import CodeTokens, padded_targets
from recascade_recast.adapters.trl import BeamSearch, ReCastRollout, recast_reward
from recascade_recast.adapters.verl import ReCastBatch
from recascade_recast.config import SignalConfig

WORDS = ["<pad>", "<eos>", "<sid>", "buy", *(f"<{level}_{code}>" for level in "abc" for code in range(4))]
TOKENS = CodeTokens([[4 + 4 * level + code for code in range(4)] for level in range(3)])


def written(*ids: tuple[int, int, int]) -> torch.Tensor:
    return TOKENS.write(torch.tensor(ids))


def test_ids_are_found_wherever_they_stand() -> None:
    one, two = written((1, 2, 3), (0, 0, 1))
    filler = torch.tensor([3])
    responses = torch.stack([torch.cat([filler, one, two]), torch.cat([one[:2], filler, two, filler])])
    found = TOKENS.find(responses)
    assert found.ids.tolist() == [[[1, 2, 3], [0, 0, 1]], [[0, 0, 1], [-1, -1, -1]]]
    assert found.starts.tolist() == [1, 3]
    nothing = TOKENS.find(torch.tensor([[3, 1000, 0, 2]]))
    assert nothing.ids.tolist() == [[[-1, -1, -1]]] and nothing.starts.tolist() == [-1]
    assert TOKENS.find(torch.tensor([[3]])).starts.tolist() == [-1]


def test_a_token_for_two_codes_is_refused() -> None:
    with pytest.raises(DataError, match="stands for two codes"):
        CodeTokens([[1, 2], [2, 3]])


def test_targets_are_padded_and_must_be_there() -> None:
    assert padded_targets([[(1, 2)], [(3, 4), (5, 6)]]).tolist() == [[[1, 2], [-1, -1]], [[3, 4], [5, 6]]]
    with pytest.raises(DataError, match="Prompt 1 of the batch"):
        padded_targets([[(1, 2)], []])


def test_an_anchor_keeps_what_stands_before_its_id() -> None:
    thought = torch.tensor([3, 2])
    group = torch.stack([torch.cat([thought, one]) for one in written((1, 1, 1), (2, 2, 2))])
    anchor = put_id(group[None], torch.tensor([[2, 2]]), torch.tensor([1]), written((0, 0, 0)))
    assert anchor.tolist() == [torch.cat([thought, written((0, 0, 0))[0]]).tolist()]
    unparsed = group.clone()
    unparsed[1] = 3
    anchor = put_id(unparsed[None], torch.tensor([[2, -1]]), torch.tensor([1]), written((0, 0, 0)))
    assert anchor.tolist() == [torch.cat([thought, written((0, 0, 0))[0]]).tolist()]


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (SignalConfig(anchor="random"), "anchor=random is not possible under an engine; leave anchor at first"),
        (SignalConfig(adaptive=0.5), r"adaptive=0\.5 is not possible under an engine; leave adaptive at 0"),
        (SignalConfig(ties="log-prob"), "ties=log-prob is not possible under an engine; leave ties at first or random"),
    ],
)
def test_settings_that_would_be_ignored_under_an_engine_are_refused(signal: SignalConfig, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ReCastRollout(TOKENS, {}, lambda *_: torch.zeros(()), signal)
    with pytest.raises(ConfigurationError, match=message):
        ReCastBatch(TOKENS, lambda truth: truth, signal)


def test_draws_are_the_policys_whatever_the_model_says_of_generation() -> None:
    asked: dict[str, Any] = {}

    class Model(torch.nn.Module):
        def generate(self, input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
            asked.update(settings)
            return input_ids.new_zeros(len(input_ids) * 4, input_ids.shape[1] + 3)

    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        model=Model(),
        processing_class=SimpleNamespace(pad_token_id=0),
    )
    inputs = torch.ones(2, 5, dtype=torch.int64)
    assert BeamSearch(4, 3, sample=True)(inputs, torch.ones_like(inputs), trainer).shape == (2, 4, 3)
    assert asked["do_sample"] and asked["top_k"] == 0
    assert asked["temperature"] == asked["top_p"] == asked["repetition_penalty"] == 1


class Tokenizer:
    """As much of a tokenizer as the adapter asks for."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, torch.Tensor]:
        rows = [[WORDS.index(word) for word in text.split()] for text in texts]
        most = max(map(len, rows))
        inputs = torch.tensor([[0] * (most - len(row)) + row for row in rows])
        return {"input_ids": inputs, "attention_mask": (inputs != 0).long()}


def stand_in(**settings: Any) -> Any:
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    plain = {"num_generations": 2, "scale_rewards": "none", "processing_class": Tokenizer(), "accelerator": accelerator}
    return SimpleNamespace(**(plain | settings))


TARGETS = {"buy <sid>": [(0, 0, 0)], "buy buy <sid>": [(1, 1, 1)], "<sid>": [(3, 3, 3)]}


def answers(inputs: torch.Tensor, attention: torch.Tensor, trainer: Any) -> torch.Tensor:
    """The first prompt is missed, the second hit, the third hit by all."""
    groups = [
        written((0, 0, 2), (0, 1, 0), (3, 3, 3)),
        written((2, 1, 1), (1, 1, 1), (1, 1, 0)),
        written((3, 3, 3), (3, 3, 3), (3, 3, 3)),
    ]
    return torch.stack(groups)[: len(inputs)]


def test_two_completions_of_each_prompt_come_back_with_plus_and_minus_w() -> None:
    rollout = ReCastRollout(TOKENS, TARGETS, answers, SignalConfig(weight=0.5))
    output = rollout([prompt for prompt in TARGETS for _ in range(2)], stand_in())
    ids = TOKENS.find(torch.tensor(output["completion_ids"])).ids[:, 0].tolist()
    assert ids == [[0, 0, 0], [0, 0, 2], [1, 1, 1], [1, 1, 0], [3, 3, 3], [3, 3, 3]]
    assert output["recast_reward"] == [1.0, -1.0, 0.5, -0.5, 0, 0]
    assert output["prompt_ids"] == [[3, 2], [3, 2], [3, 3, 2], [3, 3, 2], [2], [2]]
    assert rollout.figures["all_zero_rate"] == pytest.approx(1 / 3)
    rewards = recast_reward(completions=output["completion_ids"], recast_reward=output["recast_reward"], other=1)
    assert rewards == output["recast_reward"]


def test_settings_of_the_trainer_that_cannot_work_are_refused() -> None:
    rollout = ReCastRollout(TOKENS, TARGETS, answers)
    with pytest.raises(ConfigurationError, match="num_generations=2"):
        rollout(["buy <sid>"] * 4, stand_in(num_generations=4))
    with pytest.raises(ConfigurationError, match="scale_rewards='none'"):
        rollout(["buy <sid>"] * 2, stand_in(scale_rewards="group"))
    with pytest.raises(ConfigurationError, match="pairs of equal prompts"):
        rollout(["buy <sid>", "<sid>"], stand_in())
    with pytest.raises(DataError, match="no target for the prompt 'buy'"):
        rollout(["buy", "buy"], stand_in())
    with pytest.raises(ConfigurationError, match="width 2"):
        ReCastRollout(TOKENS, TARGETS, answers, SignalConfig(width=3))


def test_a_tiny_model_is_trained_by_trl_on_two_rows_per_prompt(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    transformers, tokenizers, datasets = map(pytest.importorskip, ("transformers", "tokenizers", "datasets"))
    model_of_words = tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>")
    backend = tokenizers.Tokenizer(model_of_words)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    ).save_pretrained(tmp_path / "supervised")
    # TRL reads the reference model from where the model came from.
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "supervised")

    def allowed(so_far: list[int]) -> list[int]:
        return list(range(4 + 4 * len(so_far), 8 + 4 * len(so_far))) if len(so_far) < 3 else [1]

    rollout = ReCastRollout(TOKENS, TARGETS, BeamSearch(8, 3, allowed))
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(trl.GRPOTrainer):  # type: ignore[name-defined,misc]
        def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], **keywords: Any) -> Any:
            seen.append({name: inputs[name].clone() for name in ("completion_ids", "advantages", "prompt_ids")})
            return super().compute_loss(model, inputs, **keywords)

    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=6,
        num_generations=2,
        scale_rewards="none",
        max_completion_length=3,
        max_steps=4,
        learning_rate=0.01,
        beta=0.01,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    data = datasets.Dataset.from_list([{"prompt": prompt} for prompt in TARGETS])
    trainer = Watched(
        model=model,
        processing_class=tokenizer,
        reward_funcs=recast_reward,
        args=arguments,
        train_dataset=data,
        rollout_func=rollout,
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train()
    assert len(seen) == 4
    for batch in seen:
        assert batch["completion_ids"].shape == (6, 3)
        assert sorted(batch["advantages"].tolist()) == [-1, -1, -1, 1, 1, 1]
        for prompt, completion, advantage in zip(
            batch["prompt_ids"], batch["completion_ids"], batch["advantages"], strict=True
        ):
            target = TARGETS[tokenizer.decode(prompt, skip_special_tokens=True)][0]
            is_target = TOKENS.find(completion[None]).ids[0, 0].tolist() == list(target)
            assert is_target == (advantage > 0)
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
