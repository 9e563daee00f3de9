"""What ``recascade taesar regenerate`` does, once its words are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from recascade.data.encode import encode
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, did_you_mean
from recascade.files import require_new_folder
from recascade.settings import compose_sections, parse_overrides
from recascade.training.config import TrainerConfig
from recascade_taesar.card import write_card
from recascade_taesar.config import TaesarConfig
from recascade_taesar.method import VARIANTS
from recascade_taesar.regenerate import regenerate

ALL = "all"


def regenerate_command(
    data: str, output: Path, words: Sequence[str], variant: str, seed: int
) -> Iterator[tuple[str, Path, str]]:
    """Regenerate, write the cards, and yield name, folder and a count in words of each new data set.

    Args:
        data: name or path of the data set.
        output: the new folder, or with ``target=all`` the folder of new folders.
        words: ``key=value``, one of them ``target``.
        variant: of the method.
        seed: of the models.

    Raises:
        ConfigurationError: no target, an unknown one, or an impossible setting.
        DataError: the data cannot be used, or the output holds something.
    """
    if variant not in VARIANTS:
        raise ConfigurationError(f"Method 'taesar' has no variant {variant!r}.{did_you_mean(variant, VARIANTS)}")
    overrides = parse_overrides(words)
    target = str(overrides.pop("target", ""))
    chosen = {f"model.{key}": value for key, value in VARIANTS[variant].items()} | overrides
    sections: dict[str, Any] = compose_sections(
        {"model": TaesarConfig, "split": SplitConfig, "trainer": TrainerConfig}, chosen
    )
    require_new_folder(output)
    split = cached_split(resolve(data), sections["split"])
    encoded = encode(split)
    names = () if encoded.item_domains is None else encoded.item_domains.names
    if not target:
        raise ConfigurationError(
            f"Name the domain to write data for, target=NAME or target=all.{did_you_mean('', names)}"
        )
    workplace = output.with_name(f".{output.name}.unfinished")
    destinations = {name: output / name for name in names} if target == ALL else {target: output}
    with Progress(transient=True) as bar:
        task = bar.add_task("training the models", total=None)
        made = regenerate(
            split,
            encoded,
            sections["model"],
            destinations,
            workplace,
            seed=seed,
            trainer=sections["trainer"],
            progress=lambda done, total: bar.update(task, description="regenerating", completed=done, total=total),
        )
    # Models and shards are worth keeping: other targets and settings can be decoded from the same models.
    if (workplace / "models").is_dir():
        (workplace / "models").rename(output / "models")
    shutil.rmtree(workplace)
    for name, dataset in made.items():
        card = write_card(dataset, split)
        yield name, dataset.path, card.in_words()
