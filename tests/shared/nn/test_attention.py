from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.attention import causal_attention, newest_attention
from recascade.nn.packed import PackedLayout

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LENGTHS = [3, 0, 170, 1, 16, 17, 2, 60, 2, 130]


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def by_sequence(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
    """The definition: every sequence for itself."""
    outputs = []
    for start, end in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        outputs.append((scores.masked_fill(later, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    events = sum(LENGTHS)
    query, key, value = (torch.randn(events, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return query, key, value


def test_training_path_equals_the_definition_with_gradients(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    offsets = offsets_of(LENGTHS)
    attended = causal_attention(*inputs, PackedLayout.of(offsets))
    expected = by_sequence(*inputs, offsets)
    torch.testing.assert_close(attended, expected)
    outer = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(attended, inputs, outer), torch.autograd.grad(expected, inputs, outer), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_inference_path_equals_the_definition(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    offsets = offsets_of(LENGTHS)
    with torch.no_grad():
        attended = causal_attention(*inputs, PackedLayout.of(offsets))
    torch.testing.assert_close(attended, by_sequence(*inputs, offsets).detach())


def test_future_events_change_nothing(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    layout = PackedLayout.of(offsets_of([sum(LENGTHS)]))
    cut = 100
    before = causal_attention(*inputs, layout)
    changed = [tensor.detach().clone() for tensor in inputs]
    for tensor in changed:
        tensor[cut:] = 7.0
    after = causal_attention(*(tensor.requires_grad_() for tensor in changed), layout)
    assert torch.equal(before[:cut], after[:cut])
    assert not torch.allclose(before[cut:], after[cut:])


def test_gradient_with_dropped_weights_is_that_of_the_same_draw() -> None:
    layout = PackedLayout.of(offsets_of([3, 0, 17]))
    tensors = [torch.randn(20, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def attend(*arguments: Tensor) -> Tensor:
        torch.manual_seed(5)
        return causal_attention(*arguments, layout, dropout=0.3)

    assert torch.autograd.gradcheck(attend, tensors)


def test_dropped_weights_keep_the_expectation() -> None:
    torch.manual_seed(0)
    layout = PackedLayout.of(offsets_of([8] * 400))
    query, key = (torch.randn(8, 1, 4).repeat(400, 1, 1).requires_grad_() for _ in range(2))
    value = torch.ones(3200, 1, 1)
    attended = causal_attention(query, key, torch.cat([value] * 4, dim=2), layout, dropout=0.25)
    assert attended.std() > 0.1
    assert abs(float(attended.detach().mean()) - 1.0) < 0.02


def test_newest_events_drop_weights_too() -> None:
    torch.manual_seed(0)
    layout = PackedLayout.of(offsets_of([8] * 400))
    query, key, value = torch.randn(400, 1, 4), torch.randn(3200, 1, 4), torch.ones(3200, 1, 4)
    torch.testing.assert_close(newest_attention(query, key, value, layout), torch.ones(400, 1, 4))
    attended = newest_attention(query, key, value, layout, dropout=0.25)
    assert attended.std() > 0.1
    assert abs(float(attended.mean()) - 1.0) < 0.1


def test_fused_kernel_agrees_where_lengths_are_equal() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(6 * 20, 2, 8, requires_grad=True) for _ in range(3))
    attended = causal_attention(query, key, value, PackedLayout.of(offsets_of([20] * 6)))
    q, k, v = (tensor.view(6, 20, 2, 8).transpose(1, 2) for tensor in (query, key, value))
    expected = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(120, 2, 8)
    torch.testing.assert_close(attended, expected)


@pytest.mark.parametrize("training", [True, False])
def test_one_rectangle_gives_what_groups_of_rectangles_give(
    inputs: tuple[Tensor, Tensor, Tensor], training: bool
) -> None:
    offsets = offsets_of(LENGTHS)
    layout = PackedLayout.rectangle(offsets, sum(LENGTHS), 200)
    with torch.set_grad_enabled(training):
        attended = causal_attention(*inputs, layout)
    torch.testing.assert_close(attended, by_sequence(*inputs, offsets))
    if training:
        outer = torch.randn_like(attended)
        expected = torch.autograd.grad(by_sequence(*inputs, offsets), inputs, outer)
        for gradient, wanted in zip(torch.autograd.grad(attended, inputs, outer), expected, strict=True):
            torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("width", [8, 12, 16, 50])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_stays_near_the_definition(device: str, training: bool, width: int) -> None:
    torch.manual_seed(0)
    offsets = offsets_of(LENGTHS)
    exact = [torch.randn(sum(LENGTHS), 2, width).bfloat16().float().requires_grad_() for _ in range(3)]
    rounded = [tensor.detach().to(device, torch.bfloat16).requires_grad_() for tensor in exact]
    layout = PackedLayout.bounded(offsets.to(device), sum(LENGTHS), 200)
    with torch.set_grad_enabled(training):
        attended = causal_attention(*rounded, layout)
    expected = by_sequence(*exact, offsets)
    torch.testing.assert_close(attended.cpu().float(), expected, rtol=2e-2, atol=2e-2)
    if training:
        outer = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, exact, outer)
        found = torch.autograd.grad(attended, rounded, outer.to(device, torch.bfloat16))
        for gradient, right in zip(found, wanted, strict=True):
            assert float((gradient.cpu().float() - right).norm() / right.norm()) < 2e-2


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "kernel"),
    [
        (torch.bfloat16, 8, (8, 0), "flash"),
        (torch.bfloat16, 256, (9, 0), "flash"),
        (torch.bfloat16, 12, (9, 0), "rectangles"),
        (torch.float16, 50, (9, 0), "rectangles"),
        (torch.float16, 264, (9, 0), "rectangles"),
        (torch.float16, 64, (7, 5), "rectangles"),
        (torch.float32, 8, (9, 0), "rectangles"),
        (torch.float32, 16, (7, 5), "flexible"),
        (torch.float32, 50, (9, 0), "flexible"),
    ],
)
def test_a_gpu_gets_a_kernel_that_takes_the_heads(
    dtype: torch.dtype, width: int, capability: tuple[int, int], kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(Tensor):
        """Says that it lies on a GPU, and what is computed from it does not."""

        is_cuda = True
        __torch_function__ = torch._C._disabled_torch_function_impl

    used = []

    def pretend(name: str) -> Callable[..., Tensor]:
        return lambda query, *_, **__: used.append(name) or torch.zeros(query.shape)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr("recascade.nn.attention.varlen_attn", pretend("flash"))
    monkeypatch.setattr("recascade.nn.attention.flexible_attention", pretend("flexible"))
    tensors = [torch.randn(5, 2, width, dtype=dtype).as_subclass(OnGpu) for _ in range(3)]
    with torch.no_grad():
        causal_attention(*tensors, PackedLayout.of(offsets_of([2, 3])))
    assert (used or ["rectangles"]) == [kernel]


@NEEDS_GPU
@pytest.mark.parametrize("width", [8, 12, 16, 50])
def test_single_precision_on_a_gpu_equals_the_definition(width: int) -> None:
    torch.manual_seed(0)
    offsets = offsets_of(LENGTHS)
    tensors = [torch.randn(sum(LENGTHS), 2, width) for _ in range(3)]
    layout = PackedLayout.bounded(offsets.cuda(), sum(LENGTHS), 200)
    with torch.no_grad():
        attended = causal_attention(*(tensor.cuda() for tensor in tensors), layout)
    torch.testing.assert_close(attended.cpu(), by_sequence(*tensors, offsets), rtol=1e-3, atol=1e-3)
