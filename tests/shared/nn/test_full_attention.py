from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.full_attention import full_attention
from recascade.nn.packed import PackedLayout

LENGTHS = [3, 0, 170, 1, 16, 17, 2, 60, 2, 130]


def inputs() -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    torch.manual_seed(0)
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    query, key, value = (torch.randn(sum(LENGTHS), 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return offsets, (query, key, value)


def by_sequence(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
    outputs = []
    for start, end in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        outputs.append(((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


def test_training_path_equals_the_definition_with_gradients() -> None:
    offsets, tensors = inputs()
    attended, expected = full_attention(*tensors, PackedLayout.of(offsets)), by_sequence(*tensors, offsets)
    torch.testing.assert_close(attended, expected)
    outer = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(attended, tensors, outer), torch.autograd.grad(expected, tensors, outer), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_inference_path_equals_the_definition() -> None:
    offsets, tensors = inputs()
    with torch.no_grad():
        torch.testing.assert_close(full_attention(*tensors, PackedLayout.of(offsets)), by_sequence(*tensors, offsets))


def test_sequences_do_not_see_each_other() -> None:
    offsets, tensors = inputs()
    layout = PackedLayout.of(offsets)
    changed = [tensor.detach().clone() for tensor in tensors]
    for tensor in changed:
        tensor[offsets[2] : offsets[3]] += 1.0
    before, after = full_attention(*tensors, layout), full_attention(*(t.requires_grad_() for t in changed), layout)
    assert torch.equal(before[: offsets[2]], after[: offsets[2]])
    assert torch.equal(before[offsets[3] :], after[offsets[3] :])
    assert not torch.allclose(before[offsets[2] : offsets[3]], after[offsets[2] : offsets[3]])


def test_dropped_weights_keep_the_expectation() -> None:
    torch.manual_seed(0)
    layout = PackedLayout.of(torch.arange(401) * 8)
    query, key = (torch.randn(8, 1, 4).repeat(400, 1, 1).requires_grad_() for _ in range(2))
    attended = full_attention(query, key, torch.ones(3200, 1, 4), layout, dropout=0.25)
    assert attended.std() > 0.1
    assert abs(float(attended.detach().mean()) - 1.0) < 0.02


def test_gradient_with_dropped_weights_is_that_of_the_same_draw() -> None:
    layout = PackedLayout.of(torch.tensor([0, 3, 3, 20]))
    tensors = [torch.randn(20, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def attend(*arguments: Tensor) -> Tensor:
        torch.manual_seed(5)
        return full_attention(*arguments, layout, dropout=0.3)

    assert torch.autograd.gradcheck(attend, tensors)
