from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext

LENGTHS = [3, 170, 1, 16, 60]
IDS, STEPS, HEADS, DEPTH = 4, 3, 2, 8


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, HEADS, DEPTH, dtype=torch.float64, requires_grad=True)


def replicated(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    offsets: Tensor,
    visible: Tensor | None,
    own: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Every id with a copy of its request's context, one softmax per code."""
    result = torch.empty_like(query)
    for request in range(len(LENGTHS)):
        for number in range(query.shape[1]):
            until = offsets[request + 1] if visible is None else offsets[request] + visible[request, number]
            context = slice(int(offsets[request]), int(until))
            for step in range(query.shape[2]):
                k, v = keys[context], values[context]
                if own is not None:
                    seen = own[0].shape[2] - query.shape[2] + step + 1
                    k = torch.cat([k, own[0][request, number, :seen]])
                    v = torch.cat([v, own[1][request, number, :seen]])
                weights = (torch.einsum("hd,thd->ht", query[request, number, step], k) / DEPTH**0.5).softmax(-1)
                result[request, number, step] = torch.einsum("ht,thd->hd", weights, v)
    return result


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("own_codes", [0, 1, 3])
def test_one_copy_of_the_context_gives_what_a_copy_per_beam_gives(part: bool, own_codes: int) -> None:
    torch.manual_seed(0)
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    keys, values = draw(sum(LENGTHS)), draw(sum(LENGTHS))
    steps = 1 if own_codes == 1 else STEPS
    query = draw(len(LENGTHS), IDS, steps)
    own = (draw(len(LENGTHS), IDS, STEPS), draw(len(LENGTHS), IDS, STEPS)) if own_codes else None
    visible = torch.stack([torch.randint(1, length + 1, (IDS,)) for length in LENGTHS]) if part else None
    context = SharedContext(keys, values, PackedLayout.of(offsets))
    attended = context.attend(query, visible=visible, own=own)
    expected = replicated(query, keys, values, offsets, visible, own)
    torch.testing.assert_close(attended, expected, rtol=1e-6, atol=1e-6)
    inputs = [query, keys, values, *(own or ())]
    outer = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(attended, inputs, outer), torch.autograd.grad(expected, inputs, outer), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


class Products(TorchDispatchMode):
    """Counts the numbers of the right-hand factors of all batched matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten.bmm.default:
            self.read += arguments[1].numel()
        return function(*arguments, **(options or {}))


def test_the_context_is_read_once_whatever_the_number_of_beams() -> None:
    torch.manual_seed(0)
    layout = PackedLayout.of(torch.tensor([0, *LENGTHS]).cumsum(0))
    context = SharedContext(draw(sum(LENGTHS)).detach(), draw(sum(LENGTHS)).detach(), layout)
    read = []
    for beams in (2, 200):
        with Products() as products:
            context.attend(draw(len(LENGTHS), beams, 1).detach())
        read.append(products.read)
    slots = sum(group.sequences * group.width for group in layout.groups)
    assert read == [2 * slots * HEADS * DEPTH] * 2


def test_dropped_weights_keep_the_expectation() -> None:
    torch.manual_seed(0)
    layout = PackedLayout.of(torch.arange(401) * 8)
    keys = torch.randn(8, 1, 4).repeat(400, 1, 1)
    context = SharedContext(keys, torch.ones(3200, 1, 4), layout)
    attended = context.attend(torch.randn(400, 2, 1, 1, 4), dropout=0.25)
    assert attended.std() > 0.1
    assert abs(float(attended.mean()) - 1.0) < 0.02
