from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from recascade.nn.attention import causal_attention
from recascade.nn.flexible_attention import causal_block_mask, flexible_attention
from recascade.nn.packed import PackedLayout

LENGTHS = [3, 0, 300, 1, 0, 128, 17, 0]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention's gradient needs a GPU")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles CPU kernels with g++")


def layout_of(lengths: list[int], device: str = "cpu") -> PackedLayout:
    return PackedLayout.of(torch.tensor([0, *lengths], device=device).cumsum(0))


def heads(layout: PackedLayout) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(len(layout.rows), 2, 16, device=layout.rows.device) for _ in range(3)]


@settings(max_examples=40)
@given(lengths=st.lists(st.one_of(st.integers(0, 5), st.integers(0, 400)), min_size=1, max_size=8).filter(any))
def test_visits_exactly_the_blocks_in_which_some_event_sees_another(lengths: list[int]) -> None:
    layout = layout_of(lengths)
    events = len(layout.rows)
    earlier = torch.arange(events)[:, None] >= torch.arange(events)
    visible = earlier & (layout.rows[:, None] == layout.rows)
    blocks = -(-events // 128)
    whole = torch.zeros(blocks * 128, blocks * 128, dtype=torch.bool)
    whole[:events, :events] = visible
    expected = whole.view(blocks, 128, blocks, 128).any(3).any(1)
    visited = causal_block_mask(layout).to_dense()[0, 0].bool()
    # Blocks between the first and the last visible one are a stretch, as a causal mask has it.
    assert torch.equal(visited, expected)


def test_importing_attention_does_not_load_the_compiler() -> None:
    """It takes half a second and 50 MB, and most runs never compile."""
    code = "import sys, recascade.nn.attention; print([name for name in sys.modules if 'torch._inductor.comp' in name])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@needs_compiler
def test_equals_the_other_implementations(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(LENGTHS)
    tensors = heads(layout)
    # Sizes fixed: with symbolic ones PyTorch 2.13 writes CPU code that does not compile.
    fixed = torch.compile(flex_attention, dynamic=False)
    monkeypatch.setattr("recascade.nn.flexible_attention._compiled", lambda: fixed)
    with torch.no_grad():
        attended = flexible_attention(*tensors, layout)
        torch.testing.assert_close(attended, causal_attention(*tensors, layout), rtol=1e-5, atol=1e-5)


@needs_gpu
def test_gradient_equals_that_of_the_cpu() -> None:
    found = {}
    for device in ("cpu", "cuda"):
        layout = layout_of(LENGTHS, device)
        torch.manual_seed(0)
        tensors = [torch.randn(len(layout.rows), 2, 16).to(device).requires_grad_() for _ in range(3)]
        attended = causal_attention(*tensors, layout)
        outer = torch.linspace(-1, 1, attended.numel()).view_as(attended).to(device)
        found[device] = [attended, *torch.autograd.grad(attended, tensors, outer)]
    for result, expected in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(result.cpu(), expected, rtol=1e-4, atol=1e-5)
