"""Losses, attention and whole training steps beside their textbook forms: CPU milliseconds of one thread in one run.

Run: python benchmarks/losses_and_attention.py [--repeats 7]

Lengths are drawn once: Beauty-like (median 6, at most 50; 12,101 items; 1 block) and MovieLens-1M-like (median ~95,
at most 200; 3,416 items; 2 blocks), 128 sequences, d = 64, one head, dropout 0.2. "padded" pads every sequence of the
batch to the longest, as most libraries do. Every row is the least of the repeats, which take turns, so that a busy
machine slows all of them. The share is of the rate of a 1024 x 1024 x 1024 product measured in the same turns; the
operations counted are those of matrix products that the task needs, without padding and without future events.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from recascade.contracts.context import Context
from recascade.models.sasrec import SASRec
from recascade.nn.attention import causal_attention
from recascade.nn.losses import full_softmax, sampled_softmax
from recascade.nn.packed import PackedLayout

DIMENSION, DROPOUT, SEQUENCES, NEGATIVES = 64, 0.2, 128, 256


class Setting(NamedTuple):
    """One data set's shape."""

    name: str
    items: int
    blocks: int
    max_length: int
    median: float
    spread: float


SETTINGS = (
    Setting("Beauty-like", items=12_101, blocks=1, max_length=50, median=6.0, spread=0.6),
    Setting("MovieLens-1M-like", items=3_416, blocks=2, max_length=200, median=95.0, spread=1.0),
)


class Case(NamedTuple):
    """Something to time; ``operations`` are those of its matrix products, 0 where not counted."""

    name: str
    work: Callable[[], object]
    operations: float = 0.0


def draw_batch(setting: Setting) -> Context:
    """One batch of the setting's lengths."""
    generator = torch.Generator().manual_seed(0)
    logarithms = torch.randn(SEQUENCES, generator=generator) * setting.spread
    lengths = (logarithms.exp() * setting.median).round().long().clamp(2, setting.max_length)
    offsets = torch.zeros(SEQUENCES + 1, dtype=torch.int64)
    offsets[1:] = lengths.cumsum(0)
    events = int(offsets[-1])
    items = torch.randint(0, setting.items, (events,), generator=generator)
    return Context(torch.arange(SEQUENCES), items, torch.zeros(events, dtype=torch.int64), offsets)


def loss_cases(setting: Setting, events: int) -> list[Case]:
    """Losses with the gradients of states and item vectors."""
    states = torch.randn(events, DIMENSION, requires_grad=True)
    vectors = (torch.randn(setting.items, DIMENSION) * 0.1).requires_grad_()
    targets = torch.randint(0, setting.items, (events,))
    negatives = torch.randint(0, setting.items, (NEGATIVES,))
    operations = 6.0 * events * setting.items * DIMENSION

    def gradients(loss: Tensor) -> None:
        torch.autograd.grad(loss, (states, vectors))

    def sampled(drawn: Tensor) -> None:
        chosen = vectors.index_select(0, torch.cat([targets, drawn.flatten()]))
        others = chosen[events:].view(*drawn.shape, DIMENSION)
        gradients(sampled_softmax(states, chosen[:events], others, collisions=targets[:, None] == drawn))

    cases = [
        Case("full softmax, chunks", lambda: gradients(full_softmax(states, vectors, targets)), operations),
        Case("full softmax, all scores", lambda: gradients(cross_entropy(states @ vectors.t(), targets)), operations),
        Case(f"sampled softmax, {NEGATIVES} shared", lambda: sampled(negatives)),
    ]
    # Negatives of their own for 14,000 positions take a gigabyte.
    if events < 5_000:
        own = torch.randint(0, setting.items, (events, NEGATIVES))
        cases.append(Case(f"sampled softmax, {NEGATIVES} each", lambda: sampled(own)))
    return cases


def attention_cases(context: Context) -> list[Case]:
    """Attention with its gradients."""
    layout = PackedLayout.of(context.offsets)
    events = len(context.items)
    packed = [torch.randn(events, 1, DIMENSION, requires_grad=True) for _ in range(3)]
    padded = [torch.randn(SEQUENCES, 1, layout.longest, DIMENSION, requires_grad=True) for _ in range(3)]
    outer, padded_outer = torch.randn_like(packed[0]), torch.randn_like(padded[0])
    mask = torch.ones(layout.longest, layout.longest, dtype=torch.bool).tril()
    operations = 6.0 * float(context.lengths.square().sum()) * DIMENSION

    def run_packed(dropout: float) -> None:
        query, key, value = packed
        torch.autograd.grad(causal_attention(query, key, value, layout, dropout=dropout), packed, outer)

    def run_padded(dropout: float) -> None:
        query, key, value = padded
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        torch.autograd.grad(attended, padded, padded_outer)

    return [
        Case("attention, packed tiles", lambda: run_packed(DROPOUT), operations),
        Case("attention, padded", lambda: run_padded(DROPOUT), operations),
        Case("attention, packed tiles, no dropout", lambda: run_packed(0.0), operations),
        Case("attention, padded, no dropout", lambda: run_padded(0.0), operations),
    ]


class PaddedEncoder(nn.Module):
    """The same architecture (pre-norm) from PyTorch's parts, on padded batches."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.items = nn.Embedding(setting.items + 1, DIMENSION, padding_idx=setting.items)
        self.positions = nn.Embedding(setting.max_length, DIMENSION)
        layer = nn.TransformerEncoderLayer(DIMENSION, 1, DIMENSION, DROPOUT, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, setting.blocks, nn.LayerNorm(DIMENSION), enable_nested_tensor=False)

    def forward(self, items: Tensor) -> Tensor:
        """Indices ``[B, L]`` to states ``[B, L, d]``."""
        length = items.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        inputs = self.items(items) * DIMENSION**0.5 + self.positions.weight[:length]
        states: Tensor = self.encoder(nn.functional.dropout(inputs, DROPOUT), mask=mask)
        return states


def step_cases(setting: Setting, context: Context) -> list[Case]:
    """Whole training steps with Adam."""
    events = len(context.items)
    targets = torch.randint(0, setting.items, (events,))
    negatives = torch.randint(0, setting.items, (NEGATIVES,))
    model = SASRec(setting.items, DIMENSION, setting.blocks, 1, setting.max_length, DROPOUT, order="pre_norm")
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    layout = PackedLayout.of(context.offsets)
    padded_items = torch.full((SEQUENCES, layout.longest), setting.items)
    padded_items[layout.rows, layout.positions] = context.items
    padded_targets = torch.full((SEQUENCES, layout.longest), -100)
    padded_targets[layout.rows, layout.positions] = targets
    padded_model = PaddedEncoder(setting)
    padded_optimizer = torch.optim.Adam(padded_model.parameters(), fused=True)

    def descend(loss: Tensor, chosen: torch.optim.Optimizer) -> None:
        chosen.zero_grad()
        torch.autograd.backward(loss)
        chosen.step()

    def full() -> None:
        descend(full_softmax(model.states(context), model.item_vectors(), targets), optimizer)

    def sampled() -> None:
        vectors = model.item_vectors(torch.cat([targets, negatives]))
        collisions = targets[:, None] == negatives
        states = model.states(context)
        descend(sampled_softmax(states, vectors[:events], vectors[events:], collisions=collisions), optimizer)

    def padded() -> None:
        scores = padded_model(padded_items) @ padded_model.items.weight[:-1].t()
        descend(cross_entropy(scores.flatten(0, 1), padded_targets.flatten()), padded_optimizer)

    linear = 6.0 * events * 6 * DIMENSION**2
    squares = float(context.lengths.square().sum())
    encoder = setting.blocks * (linear + 6.0 * squares * DIMENSION)
    over_all = 6.0 * events * setting.items * DIMENSION
    over_some = 6.0 * events * NEGATIVES * DIMENSION
    return [
        Case("training step, packed, full softmax", full, encoder + over_all),
        Case("training step, padded, full softmax", padded, encoder + over_all),
        Case(f"training step, packed, {NEGATIVES} shared negatives", sampled, encoder + over_some),
    ]


def measure(cases: list[Case], repeats: int) -> None:
    """Print the least CPU milliseconds of each case, with its share of the matrix-product rate."""
    square = torch.randn(1024, 1024)
    cases = [*cases, Case("matrix product", lambda: square @ square, 2.0 * 1024**3)]
    least = [float("inf")] * len(cases)
    for _ in range(repeats):
        for number, case in enumerate(cases):
            started = time.process_time()
            case.work()
            least[number] = min(least[number], time.process_time() - started)
    rates = [case.operations / seconds for case, seconds in zip(cases, least, strict=True)]
    for case, seconds, rate in zip(cases, least, rates, strict=True):
        share = f"{rate / 1e9:7.1f} GFLOP/s {rate / rates[-1]:6.0%}" if case.operations else ""
        print(f"  {case.name:48s} {seconds * 1e3:9.2f} ms {share}")


def main() -> None:
    """Measure both settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for setting in SETTINGS:
        context = draw_batch(setting)
        events, lengths = len(context.items), context.lengths
        print(f"{setting.name}: {events} events, median length {int(lengths.median())}, longest {int(lengths.max())}")
        measure([*loss_cases(setting, events), *attention_cases(context), *step_cases(setting, context)], repeats)


if __name__ == "__main__":
    main()
