"""Taesar as a transform: a data set of several domains in, one of a single domain out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import cached_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError
from recascade.files import require_new_folder
from recascade.training.config import TrainerConfig
from recascade_taesar.card import write_card
from recascade_taesar.config import TaesarConfig
from recascade_taesar.models import MODELS
from recascade_taesar.regenerate import Progress, regenerate


@dataclass(frozen=True)
class TaesarTransform:
    """Makes data of one domain out of the histories of all.

    Attributes:
        target: the domain.
        config: models, decoding, output.
        split: what is held out; leave-one-out over the mixed histories.
        trainer: where to train, and how to log it.
        seed: of the models and the controls.
    """

    target: str
    config: TaesarConfig = field(default_factory=TaesarConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0

    def transform(self, dataset: Dataset, destination: Path) -> Dataset:
        """Write the target's data set with its card and the models that made it; see ``regenerate`` for errors."""
        return self.transform_all(dataset, {self.target: destination}, destination)[self.target]

    def transform_all(
        self,
        dataset: Dataset,
        destinations: Mapping[str, Path],
        folder: Path,
        progress: Progress = lambda done, total: None,
    ) -> dict[str, Dataset]:
        """Several domains in one pass.

        Args:
            dataset: with a column ``domain``.
            destinations: domain → new folder.
            folder: new, where the models are kept; what an interrupted call left behind stands beside it.
            progress: told how many shards are done, and of how many.
        """
        workplace = folder.with_name(f".{folder.name}.unfinished")
        if not workplace.is_dir():
            require_new_folder(folder)
        split = cached_split(dataset, self.split)
        made = regenerate(
            split,
            encode(split),
            self.config,
            destinations,
            workplace,
            seed=self.seed,
            trainer=self.trainer,
            progress=progress,
        )
        for regenerated in made.values():
            write_card(regenerated)
        if (workplace / MODELS).is_dir():
            (workplace / MODELS).rename(folder / MODELS)
        # The last step: while the workplace stands, the same call goes on.
        shutil.rmtree(workplace)
        return made


def destinations_of(target: str, domains: tuple[str, ...], output: Path) -> dict[str, Path]:
    """Where each wanted domain's data go: ``target=all`` gives each a folder in ``output``.

    Raises:
        ConfigurationError: no target was named.
    """
    if not target:
        known = f" The domains: {', '.join(domains)}." if domains else ""
        raise ConfigurationError(f"Name the domain to write data for, target=NAME, or target=all.{known}")
    return {name: output / name for name in domains} if target == "all" else {target: output}
