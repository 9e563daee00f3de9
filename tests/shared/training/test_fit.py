from __future__ import annotations

import csv
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_script import run_script
from safetensors.torch import load_file

from recascade.data.encoded import HeldOut
from recascade.errors import ConfigurationError, TrainingError
from recascade.training.config import LossConfig
from recascade.training.determinism import step_seed

REPEATABLE = ("loss", "learning_rate", "ndcg@10")


def curves(directory: Path, names=REPEATABLE) -> list[tuple[str, ...]]:
    """The lines of the log that do not measure time or memory."""
    with (directory / "curves.csv").open() as file:
        return [tuple(row.values()) for row in csv.DictReader(file) if row["name"] in names]


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def assert_equal_weights(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.fixture(scope="module")
def whole(small_fit, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    result, module = small_fit.run_fit(directory)
    return directory, result, module


@pytest.fixture(scope="module")
def killed(small_fit, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("killed")
    output = run_script("small_fit", directory)
    assert output.splitlines() == [f"{name} {int(signal.SIGKILL)}" for name in small_fit.KILLED]
    return directory


@pytest.mark.parametrize(
    "scenario", ["checkpoint-each-step", "steps-lost", "in-validation", "first-epoch", "last-step-of-epoch"]
)
def test_fit_killed_and_started_again_equals_an_uninterrupted_one_bit_for_bit(
    small_fit, whole, killed, scenario
) -> None:
    directory = killed / scenario
    before = curves(directory)
    assert 0 < len(before) < len(curves(whole[0]))
    result, module = small_fit.run_fit(directory, checkpoint_minutes=0.0)
    assert curves(directory) == curves(whole[0])
    assert_equal_weights(weights(module), weights(whole[2]))
    assert (result.best_epoch, result.best_value) == (whole[1].best_epoch, whole[1].best_value)
    assert (result.steps, result.epochs, result.tokens) == (whole[1].steps, whole[1].epochs, whole[1].tokens)


def last_checkpoint(directory: Path) -> dict[str, Any]:
    """Read as users read it: ``weights_only`` refuses a file that holds anything that could run."""
    checkpoint: dict[str, Any] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


def test_checkpoint_holds_nothing_that_could_run_code(whole) -> None:
    checkpoint = last_checkpoint(whole[0])
    assert checkpoint["global_step"] == whole[1].steps


def test_fit_started_again_after_its_end_trains_no_more(small_fit, tmp_path) -> None:
    first, module = small_fit.run_fit(tmp_path)
    lines = curves(tmp_path)
    again, reloaded = small_fit.run_fit(tmp_path)
    assert (again.steps, again.best_epoch, again.best_value) == (first.steps, first.best_epoch, first.best_value)
    assert curves(tmp_path) == lines
    assert_equal_weights(weights(module), weights(reloaded))


def test_more_epochs_continue_a_finished_fit(small_fit, whole, tmp_path) -> None:
    small_fit.run_fit(tmp_path, max_epochs=1)
    result, _ = small_fit.run_fit(tmp_path, max_epochs=3)
    assert curves(tmp_path) == curves(whole[0])
    assert result.steps == whole[1].steps


def test_step_limit_stops_in_mid_epoch_and_resumes(small_fit, whole, tmp_path) -> None:
    result, _ = small_fit.run_fit(tmp_path, max_steps=11)
    assert result.steps == 11
    result, _ = small_fit.run_fit(tmp_path)
    assert [line for line in curves(tmp_path) if line[2] == "loss"] == [
        line for line in curves(whole[0]) if line[2] == "loss"
    ]


def test_seed_decides_everything(small_fit, whole, tmp_path) -> None:
    same, _ = small_fit.run_fit(tmp_path / "same")
    small_fit.run_fit(tmp_path / "other", seed=4)
    assert curves(tmp_path / "same") == curves(whole[0])
    assert curves(tmp_path / "other") != curves(whole[0])
    assert same.best_value == whole[1].best_value


def test_kept_weights_are_those_of_the_best_validation(small_fit, whole) -> None:
    directory, result, module = whole
    values = [float(line[3]) for line in curves(directory) if line[2] == "ndcg@10"]
    assert len(values) == 3
    assert result.best_value == max(values)
    assert result.best_epoch == int(np.argmax(values)) + 1
    assert_equal_weights(weights(module), load_file(directory / "weights.safetensors"))


def test_training_learns_the_ring(whole) -> None:
    values = [float(line[3]) for line in curves(whole[0]) if line[2] == "loss"]
    assert np.mean(values[-8:]) < np.mean(values[:8])


def test_patience_stops_early(small_fit, tmp_path) -> None:
    # Nothing is learnt at this rate, so no validation beats the first.
    result, _ = small_fit.run_fit(tmp_path, max_epochs=50, patience=2, learning_rate=1e-30)
    assert result.best_epoch == 1
    assert result.epochs == 3
    again, _ = small_fit.run_fit(tmp_path, max_epochs=50, patience=2, learning_rate=1e-30)
    assert again.epochs == 3


def test_without_validation_the_last_weights_are_kept(small_fit, tmp_path) -> None:
    result, module = small_fit.run_fit(tmp_path, max_epochs=2, max_steps=3, validate_every=0)
    assert result.best_value is None
    assert_equal_weights(weights(module), load_file(tmp_path / "weights.safetensors"))
    torch.manual_seed(3)
    start = small_fit.TinyModel().state_dict()
    assert not torch.equal(start["embedding"], module.model.embedding)


def test_split_without_validation_users_trains_to_the_end(small_fit, tmp_path) -> None:
    split = small_fit.small_split()
    nobody = np.zeros(0, dtype=np.int64)
    empty = HeldOut(nobody, nobody, np.zeros(1, dtype=np.int64), nobody.astype(np.int32), nobody)
    result, _ = small_fit.run_fit(tmp_path, split=replace(split, validation=empty), max_epochs=2)
    assert (result.best_value, result.best_epoch, result.epochs) == (None, 2, 2)


def test_monitor_that_nobody_measures_is_named(small_fit, tmp_path) -> None:
    class Renaming(small_fit.NextItemModule):
        def log(self, name, *arguments, **keywords):
            super().log("recall@10", *arguments, **keywords)

    with pytest.raises(ConfigurationError, match=r"'ndcg@10', which validation does not measure"):
        small_fit.run_fit(tmp_path, module_class=Renaming)


def test_validation_only_after_the_last_epoch(small_fit, tmp_path) -> None:
    small_fit.run_fit(tmp_path, validate_every=0)
    assert [line[0] for line in curves(tmp_path) if line[2] == "ndcg@10"] == ["3"]


def test_loss_that_is_not_a_number_names_the_step_and_spoils_no_checkpoint(small_fit, tmp_path) -> None:
    class Failing(small_fit.NextItemModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * math.nan if self.global_step == 12 else loss

    with pytest.raises(TrainingError, match=r"loss of step 13 is nan \(learning rate 0.02, epoch 2\)"):
        small_fit.run_fit(tmp_path, module_class=Failing, log_every=50, checkpoint_minutes=0.0)
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint["global_step"] == 12
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signal_lets_the_step_finish_and_keeps_a_checkpoint(small_fit, whole, tmp_path, number, raised) -> None:
    class Interrupting(small_fit.NextItemModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 11:
                os.kill(os.getpid(), number)
            return super().training_step(batch, batch_idx)

    handler = signal.getsignal(number)
    with pytest.raises(raised):
        small_fit.run_fit(tmp_path, module_class=Interrupting)
    assert signal.getsignal(number) is handler
    assert last_checkpoint(tmp_path)["global_step"] == 12
    small_fit.run_fit(tmp_path)
    assert curves(tmp_path) == curves(whole[0])


def test_checkpoint_of_another_run_is_refused(small_fit, tmp_path) -> None:
    small_fit.run_fit(tmp_path, max_epochs=1, checkpoint_minutes=0.0, max_steps=4)
    with pytest.raises(TrainingError, match="another run: seed was 3 and is now 5"):
        small_fit.run_fit(tmp_path, seed=5)


def test_checkpoint_of_another_model_is_refused(small_fit, tmp_path) -> None:
    small_fit.run_fit(tmp_path, max_epochs=1)

    def widen(module) -> None:
        module.model = small_fit.TinyModel(dimension=9)

    with pytest.raises(TrainingError, match="belongs to a model of another shape"):
        small_fit.run_fit(tmp_path, prepare=widen)


def test_damaged_checkpoint_is_one_sentence(small_fit, tmp_path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TrainingError, match="Delete it to start"):
        small_fit.run_fit(tmp_path)


def test_workers_change_nothing(small_fit, whole, tmp_path) -> None:
    small_fit.run_fit(tmp_path, workers=2, max_epochs=1)
    assert curves(tmp_path) == [line for line in curves(whole[0]) if line[0] == "1"]


def test_clipping_bounds_the_first_step(small_fit, tmp_path) -> None:
    norms = []

    class Watching(small_fit.NextItemModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            gradients = [parameter.grad.flatten() for parameter in self.model.parameters()]
            norms.append(float(torch.cat(gradients).norm()))

    small_fit.run_fit(tmp_path / "free", module_class=Watching, max_epochs=1)
    free, norms = norms, []
    small_fit.run_fit(tmp_path / "clipped", module_class=Watching, max_epochs=1, gradient_clip=0.01)
    assert min(free) > 0.01
    assert max(norms) <= 0.01 * (1 + 1e-5)


def test_warm_up_rises_linearly(whole) -> None:
    rates = [float(line[3]) for line in curves(whole[0]) if line[2] == "learning_rate"]
    assert rates[:6] == pytest.approx([0.02 * share for share in (0.4, 0.6, 0.8, 1, 1, 1)])


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_trains(small_fit, tmp_path, precision) -> None:
    small_fit.run_fit(tmp_path, precision=precision, loss=LossConfig(), max_epochs=2)
    values = [float(line[3]) for line in curves(tmp_path) if line[2] == "loss"]
    assert np.isfinite(values).all()
    assert np.mean(values[-8:]) < np.mean(values[:8])


def test_tensorboard_and_log_lines(small_fit, tmp_path) -> None:
    small_fit.run_fit(tmp_path, tensorboard=True, max_epochs=1, log_every=3)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "events_per_second", "targets_per_second", "memory_bytes", "ndcg@10"} <= {r["name"] for r in rows}
    assert [row["step"] for row in rows if row["name"] == "loss"] == ["3", "6", "8"]


def test_impossible_settings_are_named(small_fit, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.log_every is 0; it must be at least 1"):
        small_fit.run_fit(tmp_path, log_every=0)


def test_step_seeds_do_not_repeat() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(400) for rank in range(3)}
    assert len(seeds) == 5 * 400 * 3
