from __future__ import annotations

import pytest
import torch

from recascade.errors import TrainingError
from recascade.training.failures import LostProcessError, explain_lost_process


def failing(small_fit, error: Exception):
    class Failing(small_fit.NextItemModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 5:
                raise error
            return super().training_step(batch, batch_idx)

    return Failing


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (GPU, r"The GPU has too little memory for a training step \(it asked for 512\.00 MiB more\)"),
        (CPU, "The machine has too little memory for a training step"),
        (MemoryError(), "The machine has too little memory for a training step"),
    ],
)
def test_lack_of_memory_names_the_settings_and_the_fit_goes_on(small_fit, tmp_path, error, sentence) -> None:
    with pytest.raises(TrainingError, match=sentence) as raised:
        small_fit.run_fit(tmp_path, module_class=failing(small_fit, error), checkpoint_minutes=0.0)
    for setting in ("trainer.batch_sequences (now 8)", "trainer.precision", "model.dimension", "last checkpoint"):
        assert setting in str(raised.value)
    assert "batch_tokens" not in str(raised.value)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    result, _ = small_fit.run_fit(tmp_path, max_epochs=1)
    assert result.steps == 8


def test_budget_of_tokens_is_named_where_there_is_one(small_fit, tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"Lower trainer.batch_tokens \(now 64\) or trainer.batch_sequences"):
        small_fit.run_fit(tmp_path, module_class=failing(small_fit, GPU), batch_tokens=64)


def test_what_is_really_too_large_is_explained(small_fit, tmp_path) -> None:
    class Greedy(small_fit.NextItemModule):
        def training_step(self, batch, batch_idx):
            return torch.empty(1 << 60).sum()

    with pytest.raises(TrainingError, match="The machine has too little memory"):
        small_fit.run_fit(tmp_path, module_class=Greedy)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size mismatch") as raised, explain_lost_process():
        raise RuntimeError("size mismatch")
    assert not isinstance(raised.value, TrainingError)


@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5331",
        "[Rank 1] Watchdog caught collective operation timeout: NCCL work",
        "Timed out waiting 1800000ms for recv operation to complete",
    ],
)
def test_lost_process_is_a_sentence(message) -> None:
    with pytest.raises(LostProcessError, match="goes on from the last checkpoint"), explain_lost_process():
        raise RuntimeError(message)
