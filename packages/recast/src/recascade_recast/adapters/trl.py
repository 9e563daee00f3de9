"""ReCast under TRL's ``GRPOTrainer``, without a change to it: the search is wide, two completions per prompt come back.

TRL computes everything after generation (old and reference log-probabilities, the loss) for the completions that a
``rollout_func`` returns. This one searches G answers, repairs, finds the boundary and returns its two sides with a
reward of +w and -w; without division by the deviation their advantage, the reward less the mean of both, is ±w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recascade.errors import ConfigurationError, DataError
from recascade_recast.adapters.anchors import put_id
from recascade_recast.adapters.code_tokens import CodeTokens, padded_targets
from recascade_recast.adapters.signals import check_signal
from recascade_recast.config import SignalConfig
from recascade_recast.diagnostics import diagnose
from recascade_recast.groups import judge
from recascade_recast.plan import plan
from recascade_recast.reward import REWARDS

Search = Callable[[Tensor, Tensor, Any], Tensor]
"""From prompts int64 ``[P, S]``, their attention mask and the trainer to completions int64 ``[P, G, T]``."""

REWARD_FIELD = "recast_reward"


class ReCastRollout:
    """A ``rollout_func`` for ``GRPOTrainer(num_generations=2, scale_rewards="none", …)``.

    Args:
        tokens: which token writes which code.
        targets: prompt, as the data set has it → ids of the items that should be answered.
        search: the wide search, for instance ``BeamSearch``.
        signal: what is learnt from a group; a contrast with a width of 2.

    Attributes:
        figures: of the last batch, see ``recascade_recast.diagnostics.diagnose``.

    Raises:
        ConfigurationError: the signal keeps more than two answers per group, or cannot be had under an engine.
    """

    def __init__(
        self,
        tokens: CodeTokens,
        targets: Mapping[str, Sequence[Sequence[int]]],
        search: Search,
        signal: SignalConfig | None = None,
    ) -> None:
        self.signal = SignalConfig() if signal is None else signal
        if self.signal.contrast == "group" or self.signal.width != 2:
            raise ConfigurationError(
                f"Under TRL two completions of a prompt go on, but the signal has contrast={self.signal.contrast!r} "
                f"and width={self.signal.width}; set a contrast 'boundary' or 'random' of width 2."
            )
        check_signal(self.signal)
        self.tokens = tokens
        self.targets = targets
        self.search = search
        self.figures: dict[str, float] = {}

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Two completions for each prompt; TRL hands every prompt over as often as it wants completions.

        Raises:
            ConfigurationError: that is not twice, or rewards would be scaled.
            DataError: a prompt has no target.
        """
        if trainer.num_generations != 2 or trainer.scale_rewards != "none":
            raise ConfigurationError(
                f"ReCast needs num_generations=2 and scale_rewards='none' in GRPOConfig, not {trainer.num_generations} "
                f"and {trainer.scale_rewards!r}."
            )
        single = list(prompts[::2])
        if len(prompts) % 2 or single != list(prompts[1::2]):
            raise ConfigurationError(
                "The rows of a process are not pairs of equal prompts; per_device_train_batch_size and "
                "gradient_accumulation_steps must give an even number of rows per process."
            )
        encoded = trainer.processing_class(
            single, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        device = trainer.accelerator.device
        attention = encoded["attention_mask"].to(device)
        inputs = encoded["input_ids"].to(device)
        completions, rewards = self._choose(
            self.search(inputs, attention, trainer), self._targets_of(single).to(device)
        )
        rows = [row[mask.bool()].tolist() for row, mask in zip(inputs, attention, strict=True)]
        return {
            "prompt_ids": [row for row in rows for _ in range(2)],
            "completion_ids": completions.flatten(0, 1).tolist(),
            "logprobs": None,
            REWARD_FIELD: rewards.flatten().tolist(),
        }

    def _targets_of(self, prompts: Sequence[str]) -> Tensor:
        unknown = next((prompt for prompt in prompts if prompt not in self.targets), None)
        if unknown is not None:
            raise DataError(f"There is no target for the prompt {unknown[:60]!r}; give one for every prompt.")
        return padded_targets([self.targets[prompt] for prompt in prompts])

    def _choose(self, completions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Completions int64 ``[P, 2, T]`` and rewards float ``[P, 2]``, both 0 in groups without a boundary."""
        prompts, width, length = completions.shape
        found = self.tokens.find(completions.flatten(0, 1))
        reward, name = REWARDS[self.signal.reward], self.signal.reward
        before = judge(found.ids.view(prompts, width, *found.ids.shape[1:]), targets, reward, name)
        made = plan(before, judge(targets[:, None, :1], targets, reward, name), self.signal)
        self.figures = {key: float(value) for key, value in diagnose(before, made).items()}
        anchors = put_id(completions, found.starts.view(prompts, width), made.slots, self.tokens.write(targets[:, 0]))
        replaced = torch.arange(width, device=completions.device) == made.slots[:, None]
        completions = torch.where(replaced[..., None], anchors[:, None], completions)
        # A group without a boundary still owes TRL two rows; equal rewards teach nothing.
        places = torch.stack([made.pairs.positives, made.pairs.negatives[:, 0]], dim=1)
        places = torch.where(places < 0, torch.tensor([0, min(1, width - 1)], device=places.device), places)
        chosen = completions.gather(1, places[..., None].expand(-1, -1, length))
        return chosen, made.advantages.gather(1, places)


def recast_reward(completions: Sequence[Any], recast_reward: Sequence[float], **_: Any) -> list[float]:
    """The reward function to give to ``GRPOTrainer``: what ``ReCastRollout`` decided."""
    return list(recast_reward)


class BeamSearch:
    """The wide search with a transformers model: G beams of a fixed number of tokens.

    Args:
        width: G.
        length: tokens written; L where the prompt ends with the opening token of an id.
        allowed: from tokens written so far to those that may follow, so that only items' ids are written; None for no
            constraint.
        sample: independent draws at temperature 1 instead of beams.
    """

    def __init__(
        self,
        width: int,
        length: int,
        allowed: Callable[[list[int]], list[int]] | None = None,
        *,
        sample: bool = False,
    ) -> None:
        self.width = width
        self.length = length
        self.allowed = allowed
        self.sample = sample

    @torch.no_grad()
    def __call__(self, inputs: Tensor, attention: Tensor, trainer: Any) -> Tensor:
        """Completions int64 ``[P, G, T]``, T = ``length``."""
        start = inputs.shape[1]
        constraint = None
        if self.allowed is not None:
            allowed = self.allowed

            def constraint(_: int, written: Tensor) -> list[int]:
                return allowed(written[start:].tolist())

        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        model.eval()
        written = model.generate(
            input_ids=inputs,
            attention_mask=attention,
            num_beams=1 if self.sample else self.width,
            num_return_sequences=self.width,
            do_sample=self.sample,
            # Not what the model's own generation settings say.
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            repetition_penalty=1.0,
            max_new_tokens=self.length,
            min_new_tokens=self.length,
            prefix_allowed_tokens_fn=constraint,
            pad_token_id=trainer.processing_class.pad_token_id,
        )
        model.train(training)
        completions: Tensor = written[:, start:].reshape(len(inputs), self.width, self.length)
        return completions
