"""Train a cascade into a folder of its own, and measure it stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from recascade.bench.config import RunConfig, same_run, save
from recascade.bench.config import load as load_config
from recascade.bench.needs import check_needs
from recascade.bench.store import CONFIG_FILE
from recascade.cascade.cascade import Cascade
from recascade.cascade.fit import FittedCascade, fit
from recascade.cascade.open_cascade import experiment_of, open_cascade
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.errors import ConfigurationError
from recascade.evaluation.evaluate import evaluate


@dataclass(frozen=True)
class StageQuality:
    """What the lists are worth after a stage.

    Attributes:
        slot: the stage.
        label: its method.
        metrics: test metrics of the cascade that ends there.
    """

    slot: str
    label: str
    metrics: dict[str, float]


def train(config: RunConfig, directory: Path, tell: Callable[[str], None]) -> list[StageQuality]:
    """Train what is not trained yet, and measure the test part after each stage.

    Args:
        config: of method ``cascade``.
        directory: the cascade's folder; one that was interrupted goes on.
        tell: told what is done next.

    Raises:
        ConfigurationError: the folder holds another cascade, or the data lack what a stage needs.
    """
    written = directory / CONFIG_FILE
    if written.exists():
        different = same_run(config, load_config(written))
        if different:
            raise ConfigurationError(
                f"{directory} holds a cascade that differs in {', '.join(different)}; choose another folder, or remove "
                "that one."
            )
    check_needs([config])
    tell(f"Preparing {config.data} …")
    split = cached_split(resolve(config.data), config.split)
    data = encode(split)
    save(config, written)
    tell(f"Training {', '.join(member.label for member in config.model.members)} …")
    fit(experiment_of(config, data, split, directory, None))
    tell("Measuring …")
    return measure(open_cascade(directory).fitted, data, config)


def measure(fitted: FittedCascade, data: EncodedSplit, config: RunConfig) -> list[StageQuality]:
    """The test metrics of the first stage alone, of the first two, and so on."""
    cascade = fitted.cascade
    parts = {
        "retriever": replace(cascade, ranker=None, reranking=None),
        "ranker": replace(cascade, reranking=None),
        "reranker": cascade,
    }

    def quality(part: Cascade) -> dict[str, float]:
        return evaluate(part, data, "test", config.evaluation).summary

    return [StageQuality(stage.slot, stage.label, quality(parts[stage.slot])) for stage in fitted.stages]
