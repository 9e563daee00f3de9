"""A trained cascade, opened from the folder that its training left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recascade.bench.config import RunConfig, load
from recascade.bench.store import CONFIG_FILE
from recascade.cascade.fit import CASCADE_FILE, FittedCascade, fit_stages
from recascade.cascade.method import METHOD
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.errors import DataError
from recascade.files import read_json


@dataclass(frozen=True)
class OpenedCascade:
    """A trained cascade with its data.

    Attributes:
        fitted: the stages.
        data: the encoded split that they learned from.
        split: the split on disk.
        config: how it was trained.
    """

    fitted: FittedCascade
    data: EncodedSplit
    split: Split
    config: RunConfig


def open_cascade(directory: Path) -> OpenedCascade:
    """Open what ``recascade cascade train`` or a run of the benchmark left; nothing is trained.

    Raises:
        DataError: the folder holds no trained cascade, the data have changed since, or a stage is not where it was.
    """
    if not (directory / CASCADE_FILE).is_file():
        raise DataError(
            f"{directory} holds no trained cascade (no {CASCADE_FILE}); make one with 'recascade cascade train', or "
            "let an interrupted one finish."
        )
    contents = read_json(directory / CASCADE_FILE)
    config = load(directory / CONFIG_FILE)
    if config.method != METHOD.name:
        raise DataError(f"{directory} holds a run of {config.method!r}, not a cascade.")
    split = cached_split(resolve(config.data), config.split)
    data = encode(split)
    if contents["split"] != data.manifest.fingerprint:
        raise DataError(
            f"The data of {directory} have changed since it was trained (split {contents['split']}, now "
            f"{data.manifest.fingerprint}); train it again."
        )
    shared = (directory / contents["shared"]).resolve()
    fitted = fit_stages(experiment_of(config, data, split, directory, shared), train=False)
    trained = {stage["slot"]: stage["version"] for stage in contents["stages"]}
    if {stage.slot: stage.version for stage in fitted.stages} != trained:
        raise DataError(f"{directory} was trained by another version of a method; train it again.")
    return OpenedCascade(fitted, data, split, config)


def experiment_of(
    config: RunConfig, data: EncodedSplit, split: Split, directory: Path, shared: Path | None
) -> Experiment:
    """What ``fit`` is given for this configuration."""
    return Experiment(
        config=config.model,
        trainer=config.trainer,
        data=data,
        split=split,
        seed=config.seed,
        directory=directory,
        exclude_seen=config.evaluation.exclude_seen,
        shared=shared,
    )
