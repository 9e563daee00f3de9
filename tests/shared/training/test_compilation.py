from __future__ import annotations

import shutil

import pytest
import torch

from recascade.training.compilation import compiled
from recascade.training.config import LossConfig, TrainerConfig

COMPILER = shutil.which("g++") or shutil.which("clang++")
BACKENDS = [
    "eager",
    pytest.param("inductor", marks=pytest.mark.skipif(not COMPILER, reason="inductor needs a C++ compiler")),
]


def weights(small_fit, directory, **trainer) -> dict[str, torch.Tensor]:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = small_fit.TinyModel()
    model.dropout.p = 0.0
    small_fit.run_fit(directory, model=model, loss=LossConfig(), max_epochs=1, **trainer)
    return model.state_dict()


@pytest.fixture(scope="module")
def eager(small_fit, tmp_path_factory) -> dict[str, torch.Tensor]:
    return weights(small_fit, tmp_path_factory.mktemp("eager"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_steps_are_the_steps(small_fit, eager, backend, tmp_path) -> None:
    ours = weights(small_fit, tmp_path, compile=True, compile_backend=backend)
    for name, value in eager.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0, msg=name)


def test_switch_goes_through_the_compiler() -> None:
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    def double(values: torch.Tensor) -> torch.Tensor:
        return values * 2

    assert compiled(double, TrainerConfig()) is double
    torch.compiler.reset()
    function = compiled(double, TrainerConfig(compile=True, compile_backend=backend))
    assert torch.equal(function(torch.ones(3)), torch.full((3,), 2.0))
    assert torch.equal(function(torch.ones(5)), torch.full((5,), 2.0))
    assert len(seen) == 1, "another length must not compile anew"
