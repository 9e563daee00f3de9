"""Training steps as ``torch.compile`` sees them: one graph for batches of all sizes, with the results of plain code."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from no_looking import NoLooking
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch
from recascade.models.hstu import HSTU
from recascade.models.sasrec import SASRec
from recascade.nn import softmax_operators
from recascade.nn.packed import PackedLayout
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule

ITEMS, LENGTH = 20, 15
MODELS: dict[str, Callable[[], nn.Module]] = {
    "sasrec": lambda: SASRec(ITEMS, 16, 1, 2, LENGTH, 0.0),
    "hstu": lambda: HSTU(ITEMS, 16, 1, 2, LENGTH, 0.0, normaliser="visible"),
}
# Code of its own for a CPU is written by PyTorch only where g++ can compile it; tracing is tested everywhere.
BEST_BACKEND = "inductor" if shutil.which("g++") else "aot_eager"


def batch_of(sequences: int, longest: int, seed: int) -> NextItemBatch:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (sequences,), generator=random)
    offsets = torch.zeros(sequences + 1, dtype=torch.int64)
    offsets[1:] = lengths.cumsum(0)
    events = int(offsets[-1])
    items, targets = (torch.randint(ITEMS, (events,), generator=random) for _ in range(2))
    timestamps = torch.randint(10**6, (events,), generator=random).sort().values
    return NextItemBatch(Context(torch.arange(sequences), items, timestamps, offsets), torch.arange(events), targets)


BATCHES = [batch_of(5, 10, 0), batch_of(12, LENGTH, 1), batch_of(4, 3, 2), batch_of(30, LENGTH, 3)]


def loss_and_gradients(step: Callable[..., Tensor], module: NextItemModule, batch: NextItemBatch) -> list[Tensor]:
    torch.manual_seed(0)
    loss = step(batch, 0)
    return [loss.detach(), *torch.autograd.grad(loss, list(module.model.parameters()))]


def module_of(small_fit, model: str, loss: str) -> NextItemModule:
    torch._dynamo.reset()
    torch.manual_seed(0)
    settings = LossConfig(loss, negatives=6, popularity_exponent=0.5)
    return NextItemModule(MODELS[model](), small_fit.small_split(), settings, TrainerConfig())


@pytest.mark.parametrize(
    ("model", "loss", "backend"),
    [("sasrec", "full_softmax", BEST_BACKEND), ("hstu", "sampled_softmax", "aot_eager")],
)
def test_one_graph_serves_all_batches_and_changes_no_result(small_fit, model: str, loss: str, backend: str) -> None:
    module = module_of(small_fit, model, loss)
    compiled = torch.compile(module.training_step, fullgraph=True, dynamic=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in BATCHES:
            found = loss_and_gradients(compiled, module, batch)
            expected = loss_and_gradients(module.training_step, module, batch)
            for result, right in zip(found, expected, strict=True):
                torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax"])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_in_the_step_of_an_accelerator_looks_at_data(
    small_fit, monkeypatch: pytest.MonkeyPatch, model: str, loss: str
) -> None:
    monkeypatch.setattr(PackedLayout, "bounded", PackedLayout.rectangle)
    monkeypatch.setattr(softmax_operators, "_looking_is_free", lambda device: False)
    module = module_of(small_fit, model, loss)
    torch.manual_seed(0)
    with NoLooking():
        found = module.training_step(BATCHES[0], 0)
        if model == "sasrec":
            torch.autograd.backward(found)
    monkeypatch.undo()
    torch.manual_seed(0)
    torch.testing.assert_close(found, module.training_step(BATCHES[0], 0), rtol=1e-5, atol=1e-5)
