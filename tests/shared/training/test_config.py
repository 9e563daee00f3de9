from __future__ import annotations

import subprocess
import sys

import pytest

from recascade.errors import ConfigurationError
from recascade.training.config import LossConfig, TrainerConfig


def test_defaults_pass() -> None:
    TrainerConfig().check()
    LossConfig().check()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (TrainerConfig(precision="bf16"), r"trainer\.precision is 'bf16'"),
        (TrainerConfig(learning_rate=float("nan")), r"trainer\.learning_rate is nan; it must be above 0"),
        (TrainerConfig(strategy="fsdp2"), r"trainer\.strategy is 'fsdp2'\. Did you mean 'fsdp'\?"),
        (TrainerConfig(max_epochs=0), r"trainer\.max_epochs is 0; it must be at least 1"),
        (TrainerConfig(patience=-1), r"trainer\.patience is -1; it must be at least 0"),
        (LossConfig(name="sampled_sofmax"), r"Did you mean 'sampled_softmax'\?"),
        (LossConfig(sharing="blocks"), r"loss\.sharing is 'blocks'\. Did you mean 'block'\?"),
        (LossConfig(block=0), r"loss\.block is 0; it must be at least 1"),
        (LossConfig(negatives=0), "at least 1"),
        (LossConfig(temperature=0.0), "above 0"),
    ],
)
def test_impossible_values_are_one_sentence(config, sentence) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        config.check()


def test_importing_the_configuration_costs_no_torch() -> None:
    code = "import sys, recascade.training.config; print({'torch', 'lightning', 'numpy'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
