"""The transform for verl, on its own data structure where verl is installed, else on one with the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from recascade.errors import ConfigurationError, DataError, TrainingError
from recascade_recast.adapters.code_tokens import CodeTokens
from recascade_recast.adapters.verl import ReCastBatch, group_rows, recast_advantages
from recascade_recast.config import SignalConfig

TOKENS = CodeTokens([[10 + 4 * level + code for code in range(4)] for level in range(3)])
PAD, THINK = 0, 5
PROMPT, RESPONSE = 3, 6


@dataclass
class StandIn:
    """The part of ``verl.DataProto`` that the transform uses."""

    batch: dict[str, torch.Tensor]
    non_tensor_batch: dict[str, Any]
    meta_info: dict[str, Any]

    def select_idxs(self, rows: torch.Tensor) -> StandIn:
        batch = {name: value[rows] for name, value in self.batch.items()}
        others = {name: value[rows.numpy()] for name, value in self.non_tensor_batch.items()}
        return StandIn(batch, others, self.meta_info)

    def __len__(self) -> int:
        return len(self.batch["responses"])


def real(batch: dict[str, torch.Tensor], others: dict[str, Any], meta: dict[str, Any]) -> Any:
    verl = pytest.importorskip("verl")
    return verl.DataProto.from_dict(batch, others, meta)


@pytest.fixture(params=(StandIn, real))
def make(request: pytest.FixtureRequest) -> Any:
    """A batch of three groups of three, shuffled: a is missed, b is hit once, c by everybody."""

    def build(thoughts: int = 2) -> Any:
        answers = {
            "a": [(0, 0, 2), (0, 1, 0), (3, 3, 3)],
            "b": [(2, 1, 1), (1, 1, 1), (1, 1, 0)],
            "c": [(3, 3, 3), (3, 3, 3), (3, 3, 3)],
        }
        truth = {"a": (0, 0, 0), "b": (1, 1, 1), "c": (3, 3, 3)}
        order = [(uid, place) for place in range(3) for uid in "abc"]
        responses = torch.full((9, RESPONSE), PAD)
        for row, (uid, place) in enumerate(order):
            responses[row, :thoughts] = THINK + torch.arange(thoughts)
            responses[row, thoughts : thoughts + 3] = TOKENS.write(torch.tensor(answers[uid][place]))
        mask = (responses != PAD).long()
        attention = torch.cat([torch.ones(9, PROMPT, dtype=torch.int64), mask], dim=1)
        scores = torch.zeros(9, RESPONSE)
        for row, (uid, place) in enumerate(order):
            scores[row, thoughts + 2] = float(answers[uid][place] == truth[uid])
        batch = {
            "responses": responses,
            "input_ids": torch.cat([torch.full((9, PROMPT), 7), responses], dim=1),
            "attention_mask": attention,
            "position_ids": attention.cumsum(1) - 1,
            "response_mask": mask,
            "rm_scores": scores,
        }
        others = {
            "uid": np.array([uid for uid, _ in order], dtype=object),
            "reward_model": np.array([{"ground_truth": truth[uid]} for uid, _ in order], dtype=object),
        }
        return request.param(batch, others, {})

    return build


def transform(**settings: Any) -> ReCastBatch:
    return ReCastBatch(TOKENS, lambda truth: [truth["ground_truth"]], SignalConfig(**settings))


def written(data: Any) -> list[list[int]]:
    return TOKENS.find(data.batch["responses"]).ids[:, 0].tolist()


def test_two_rows_of_each_learnable_group_stay(make: Any) -> None:
    data = make()
    figures = transform(weight=0.5, repaired_weight=0.25)(data)
    assert len(data) == 4
    assert list(data.non_tensor_batch["uid"]) == ["a", "a", "b", "b"]
    assert written(data) == [[0, 0, 2], [0, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert data.batch["rm_scores"].sum(1).tolist() == [-0.25, 0.25, 0.5, -0.5]
    assert torch.equal(data.batch["input_ids"][:, PROMPT:], data.batch["responses"])
    assert torch.equal(data.batch["attention_mask"][:, PROMPT:], data.batch["response_mask"])
    assert data.meta_info["global_token_num"] == [8] * 4
    third = pytest.approx(1 / 3)
    assert figures["recast/all_zero_rate"] == figures["training/grpo_all_zero_hit_reward_group_ratio"] == third
    assert figures["recast/skipped_rate"] == third


def test_the_anchor_keeps_the_thought_of_the_response_that_it_replaces(make: Any) -> None:
    data = make()
    transform()(data)
    assert (data.batch["responses"][:, :2] == torch.tensor([THINK, THINK + 1])).all()
    plain = make(thoughts=0)
    transform()(plain)
    assert plain.batch["responses"][1, :3].tolist() == TOKENS.write(torch.tensor((0, 0, 0))).tolist()


def test_rows_are_filled_up_to_the_divisor_without_a_say(make: Any) -> None:
    data = make()
    transform()(data, divisor=8)
    assert len(data) == 8
    assert not data.batch["rm_scores"][4:].any() and not data.batch["response_mask"][4:].any()
    assert data.batch["response_mask"][:4].any(1).all()
    uids = list(data.non_tensor_batch["uid"])
    assert all(uids.count(uid) <= 2 for uid in uids) and len(set(uids[4:])) == 4


def test_the_estimator_gives_every_token_its_responses_weight(make: Any) -> None:
    data = make()
    transform()(data)
    advantages, returns = recast_advantages(
        data.batch["rm_scores"], data.batch["response_mask"], index=None, config=None
    )
    assert torch.equal(advantages, returns)
    assert torch.equal(advantages, torch.tensor([-1.0, 1, 1, -1])[:, None] * data.batch["response_mask"])


def test_a_response_without_an_id_borrows_the_text_of_its_group(make: Any) -> None:
    data = make()
    replaced = 6  # the third answer to a, of the least score
    for name in ("responses", "input_ids"):
        data.batch[name][replaced, -RESPONSE:] = PAD
    for name in ("response_mask", "attention_mask"):
        data.batch[name][replaced, -RESPONSE:] = 0
    transform()(data)
    assert written(data)[1] == [0, 0, 0]
    assert data.batch["responses"][1, :2].tolist() == [THINK, THINK + 1]
    assert data.batch["response_mask"][1].tolist() == data.batch["response_mask"][0].tolist()
    assert data.batch["rm_scores"][1].tolist() == [0, 0, 0, 0, 1, 0]


def test_bad_batches_are_refused(make: Any) -> None:
    unequal = make()
    unequal.non_tensor_batch["uid"][0] = "b"
    with pytest.raises(DataError, match="Groups have 2 to 4 responses"):
        transform()(unequal)
    broken = make()
    broken.batch["rm_scores"][0, 0] = torch.nan
    with pytest.raises(TrainingError, match="'rm_scores' gives nan"):
        transform()(broken)
    with pytest.raises(TrainingError, match="gives 0 for the target of prompt 0"):
        gated = ReCastBatch(
            TOKENS, lambda truth: [truth["ground_truth"]], SignalConfig(), lambda anchors, _: torch.zeros(len(anchors))
        )
        gated(make())
    nothing = make()
    nothing.batch["rm_scores"].zero_()
    with pytest.raises(ConfigurationError, match="no row is left"):
        transform(repair="never")(nothing)


def test_groups_are_found_in_any_order() -> None:
    assert group_rows(["x", "y", "x", "y"]).tolist() == [[0, 2], [1, 3]]
    assert group_rows(np.array(["b", "b", "a", "a"], dtype=object)).tolist() == [[0, 1], [2, 3]]
