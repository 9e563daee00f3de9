from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch, NextItemData
from recascade.training.config import TrainerConfig
from recascade.training.transfer import moved_ahead, with_tensors

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@dataclass(frozen=True)
class Batch:
    values: Tensor
    name: str
    inner: Context | None = None


def test_on_a_cpu_batches_pass_as_they_are() -> None:
    batches = [Batch(torch.arange(3), "first"), Batch(torch.arange(4), "second")]
    passed = list(moved_ahead(iter(batches), torch.device("cpu")))
    assert all(ours is theirs for ours, theirs in zip(passed, batches, strict=True))


def test_every_tensor_of_a_batch_is_changed_and_nothing_else(small_fit) -> None:
    data = NextItemData(small_fit.small_split(), TrainerConfig(), max_length=10)
    batch = data.training_batch(torch.arange(5).numpy())
    doubled = with_tensors(batch, lambda tensor: tensor * 2)
    assert isinstance(doubled, NextItemBatch) and doubled.owners is None and doubled.context.now is None
    assert torch.equal(doubled.targets, batch.targets * 2)
    assert torch.equal(doubled.context.offsets, batch.context.offsets * 2)
    named = with_tensors(Batch(torch.ones(2), "name", doubled.context), torch.zeros_like)
    assert named.name == "name" and not named.values.any() and not named.inner.offsets.any()


def test_loader_of_a_fit_goes_through_the_stage(small_fit, tmp_path, monkeypatch) -> None:
    passed = []

    def noting(batches, device):
        for batch in batches:
            passed.append(batch)
            yield batch

    monkeypatch.setattr("recascade.training.transfer.moved_ahead", noting)
    small_fit.run_fit(tmp_path, max_epochs=1)
    assert len(passed) == 8


@needs_gpu
def test_on_a_gpu_batches_arrive_whole_and_in_order() -> None:
    batches = [Batch(torch.full((1 << 20,), number), str(number)) for number in range(20)]
    for number, batch in enumerate(moved_ahead(iter(batches), torch.device("cuda"))):
        torch.cuda._sleep(1_000_000)
        assert batch.values.is_cuda and batch.name == str(number)
        assert torch.equal(batch.values.cpu(), batches[number].values)


@needs_gpu
def test_a_fit_on_a_gpu_makes_the_steps_of_a_cpu(small_fit, tmp_path) -> None:
    from recascade.training.config import LossConfig

    models = []
    for accelerator in ("cpu", "gpu"):
        torch.manual_seed(0)
        model = small_fit.TinyModel()
        model.dropout.p = 0.0
        small_fit.run_fit(tmp_path / accelerator, model=model, loss=LossConfig(), accelerator=accelerator, max_epochs=1)
        models.append(model.cpu())
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], value, atol=1e-4, rtol=0, msg=name)
