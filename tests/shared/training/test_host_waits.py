"""On an accelerator each of these makes the CPU wait for the device; on a CPU they can be counted."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero"}


class Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.found[name] += 1
        return function(*arguments, **(keywords or {}))


def waits(small_fit, directory, steps: int, **options) -> Counter[str]:
    class Plain(small_fit.NextItemModule):
        """The losses of a catalogue wait where they split work by its size; here everything around them is asked."""

        def training_step(self, batch, batch_idx):
            scores = self._states(batch.context) @ self._item_vectors().t()
            loss = cross_entropy(scores.float(), batch.targets)
            return loss * loss.item() if self.trainer_config.weight_decay == 0.5 else loss

    with Waits() as counted:
        small_fit.run_fit(directory, module_class=Plain, max_steps=steps, validate_every=0, log_every=100, **options)
    return counted.found


@pytest.mark.parametrize(
    "options", [{}, {"gradient_clip": 1.0}, {"precision": "bf16-mixed"}, {"weight_decay": 0.1}, {"progress": True}]
)
def test_steps_do_not_wait_for_the_device(small_fit, tmp_path, options) -> None:
    few, many = (waits(small_fit, tmp_path / str(steps), steps, **options) for steps in (3, 7))
    assert few == many, "the fit may wait at its begin and end, and when it logs, but not in a step"


def test_waits_are_noticed(small_fit, tmp_path) -> None:
    few, many = (waits(small_fit, tmp_path / str(steps), steps, weight_decay=0.5) for steps in (3, 7))
    assert many["_local_scalar_dense"] - few["_local_scalar_dense"] == 4


def test_each_line_of_the_log_waits_a_fixed_number_of_times(small_fit, tmp_path) -> None:
    def in_lines(log_every: int) -> int:
        with Waits() as counted:
            small_fit.run_fit(tmp_path / str(log_every), max_steps=8, validate_every=0, log_every=log_every)
        return counted.found["_local_scalar_dense"]

    every, second, fourth = (in_lines(steps) for steps in (1, 2, 4))
    assert every - second == 2 * (second - fourth) > 0
