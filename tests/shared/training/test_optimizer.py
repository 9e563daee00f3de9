from __future__ import annotations

import pytest
import torch
from torch import nn

from recascade.training.config import TrainerConfig
from recascade.training.optimizer import adam


def steps(configuration, parameter: nn.Parameter, count: int) -> None:
    for _ in range(count):
        parameter.grad = torch.full_like(parameter, 2.0)
        configuration["optimizer"].step()
        if "lr_scheduler" in configuration:
            configuration["lr_scheduler"]["scheduler"].step()


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_steps_are_those_of_adam(precision) -> None:
    ours, reference = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    settings = TrainerConfig(learning_rate=0.1, gradient_clip=1.0, precision=precision)
    steps(adam([ours], settings), ours, 4)
    steps({"optimizer": torch.optim.Adam([reference], lr=0.1, betas=(0.9, 0.98))}, reference, 4)
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
    ],
)
def test_fused_steps_are_those_of_the_plain_implementation(device) -> None:
    torch.manual_seed(0)
    start = torch.randn(300, 17, device=device)
    gradients = torch.randn(20, 300, 17, device=device) * torch.logspace(-6, 1, 300, device=device)[:, None]
    fused, plain = (nn.Parameter(start.clone()) for _ in range(2))
    ours = adam([fused], TrainerConfig(learning_rate=0.01, weight_decay=0.1))["optimizer"]
    assert ours.param_groups[0]["fused"]
    theirs = torch.optim.AdamW([plain], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1, fused=False, foreach=False)
    for gradient in gradients:
        for parameter, optimizer in ((fused, ours), (plain, theirs)):
            parameter.grad = gradient
            optimizer.step()
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)


def test_weight_decay_is_decoupled() -> None:
    parameter = nn.Parameter(torch.ones(3))
    configuration = adam([parameter], TrainerConfig(learning_rate=0.1, weight_decay=0.5))
    parameter.grad = torch.zeros(3)
    configuration["optimizer"].step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 1 - 0.1 * 0.5))


def test_warm_up_reaches_the_peak_at_its_last_step() -> None:
    parameter = nn.Parameter(torch.ones(1))
    configuration = adam([parameter], TrainerConfig(learning_rate=1.0, warmup_steps=4))
    rates = []
    for _ in range(6):
        rates.append(configuration["optimizer"].param_groups[0]["lr"])
        steps(configuration, parameter, 1)
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
