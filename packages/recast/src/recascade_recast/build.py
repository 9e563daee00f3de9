"""From settings to a generator and its ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor

from recascade.contracts.method import Experiment
from recascade.errors import ConfigurationError, DataError
from recascade.files import read_json
from recascade.models.code_generator import CodeGenerator
from recascade.models.decoder_only import DecoderOnly
from recascade.models.history_tokens import Reading
from recascade.models.tiger import TIGER
from recascade.tokenizers.run_ids import IDS_FILE, ids_of_run
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.tokenize import tokenize
from recascade.training.fit import WEIGHTS
from recascade_recast.config import GeneratorConfig, ReCastConfig

TAUGHT = "taught.json"
"""In the folder of a supervised run: its split, seed and share of reinforced users, which say who has taught it."""


def build_generator(settings: GeneratorConfig, codes: Tensor, sizes: Sequence[int]) -> CodeGenerator:
    """The generator that the settings describe, with weights as torch's generator draws them.

    Args:
        settings: name and shape.
        codes: int64 ``[I, L]``, ids of the items.
        sizes: codes per level.
    """
    reading = cast(Reading, settings.reading)
    if settings.name == "decoder-only":
        return DecoderOnly(
            codes,
            sizes,
            dimension=settings.dimension,
            blocks=settings.blocks,
            heads=settings.heads,
            hidden=settings.hidden,
            max_length=settings.max_length,
            dropout=settings.dropout,
            reading=reading,
        )
    return TIGER(
        codes,
        sizes,
        dimension=settings.dimension,
        encoder_blocks=settings.encoder_blocks,
        decoder_blocks=settings.blocks,
        heads=settings.heads,
        head_width=None,
        hidden=settings.hidden,
        max_length=settings.max_length,
        dropout=settings.dropout,
        reading=reading,
    )


def start_folder(settings: ReCastConfig, seed: int) -> Path | None:
    """The folder with the supervised weights that ``start`` names; None where it names nothing.

    Raises:
        DataError: there are none.
    """
    if not settings.start:
        return None
    named = Path(settings.start).expanduser()
    folders = [folder for folder in (named / f"seed-{seed}", named) if (folder / WEIGHTS).is_file()]
    if not folders:
        raise DataError(
            f"There is no {WEIGHTS} in {named} or its seed-{seed}; set model.start to the folder of a supervised run, "
            "as 'recascade run recast --variant sft' leaves it."
        )
    return folders[0]


def check_taught(folder: Path, taught: Mapping[str, Any]) -> None:
    """Refuse a supervised model that has learnt from users who are to be reinforced, or from events held out here.

    Args:
        folder: of the supervised run.
        taught: what its ``taught.json`` must say.

    Raises:
        ConfigurationError: it was trained on another split, with another seed or another share of users.
    """
    path = folder / TAUGHT
    if not path.is_file():
        raise ConfigurationError(
            f"There is no {TAUGHT} in {folder}, so nobody knows which users the supervised model there has learnt "
            "from; run 'recascade run recast --variant sft' again."
        )
    theirs = read_json(path)
    different = [
        f"{name}={theirs.get(name)} instead of {value}" for name, value in taught.items() if theirs.get(name) != value
    ]
    if different:
        raise ConfigurationError(
            f"The supervised model in {folder} was trained with {' and '.join(different)}, so it may have learnt from "
            "users or events that are kept from it here. Use the same split and model.reinforced_users, and set "
            "model.start to the folder that holds a seed-N for each seed."
        )


def semantic_ids(settings: ReCastConfig, experiment: Experiment, start: Path | None) -> SemanticIds:
    """The ids of the run; without a given file, those of the supervised run that it starts from."""

    def make() -> SemanticIds:
        return tokenize(experiment.data, experiment.split, settings.tokenizer, experiment.seed).ids

    started = None if start is None else start / IDS_FILE
    fingerprint = experiment.data.manifest.fingerprint
    return ids_of_run(experiment.directory, settings.ids or started, make, fingerprint=fingerprint)


def load_start(model: CodeGenerator, folder: Path) -> None:
    """Put the weights of a supervised run into the model.

    Raises:
        ConfigurationError: they are the weights of another model.
    """
    try:
        load_model(model, folder / WEIGHTS)
    except (RuntimeError, SafetensorError) as error:
        raise ConfigurationError(
            f"{folder / WEIGHTS} does not hold the weights of this generator; start with the ids and the "
            "model.generator settings of the run that wrote it."
        ) from error
