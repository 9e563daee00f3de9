"""What a run leaves behind beside its weights, so that it can be opened again: settings, and tables of its requests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_model, save_model

from recascade.data.reranking_inputs import RerankingInputs
from recascade.errors import DataError
from recascade.files import read_json, write_atomically, write_json
from recascade.settings import compose_sections, flatten
from recascade.training.fit import WEIGHTS
from recascade_psad.config import PSADConfig
from recascade_psad.model import PSADModel

FACTS = "psad.json"
_TABLES = "requests.safetensors"
_FORMAT = 1


@dataclass(frozen=True)
class OpenedRun:
    """A trained model and what turns requests into its batches.

    Attributes:
        model: in evaluation mode, on the CPU.
        inputs: of the lists that it was trained on.
    """

    model: PSADModel
    inputs: RerankingInputs


def write_facts(directory: Path, config: PSADConfig, inputs: RerankingInputs) -> None:
    """Leave settings and tables; the settings come last, so that a folder with them is complete but for weights."""
    values = {each.name: getattr(inputs, each.name) for each in fields(inputs)}
    tables = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    with write_atomically(directory / _TABLES) as temporary:
        save_file({name: np.ascontiguousarray(table) for name, table in tables.items()}, temporary)
    sizes = {name: value for name, value in values.items() if name not in tables}
    write_json(directory / FACTS, {"format": _FORMAT, "model": asdict(config), "sizes": sizes})


def write_weights(directory: Path, model: PSADModel) -> None:
    """Leave the weights of a model."""
    with write_atomically(directory / WEIGHTS) as temporary:
        save_model(model, str(temporary))


def open_run(directory: Path) -> OpenedRun:
    """The model of a run, or of an exported student.

    Raises:
        DataError: the folder is not that of a finished run, or a file in it is damaged.
    """
    if not (directory / FACTS).is_file() or not (directory / WEIGHTS).is_file():
        raise DataError(
            f"{directory} is no finished run of PSAD (it has no {FACTS} and {WEIGHTS}); name the folder of one seed "
            "of 'recascade run psad', or one that 'recascade psad export' wrote."
        )
    stored: dict[str, Any] = read_json(directory / FACTS)
    if stored.get("format") != _FORMAT:
        raise DataError(f"{directory / FACTS} is of a format that this version does not read; train or export again.")
    config = compose_sections({"model": PSADConfig}, flatten({"model": stored["model"]}))["model"]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored["sizes"].items()
    }
    try:
        values |= load_file(directory / _TABLES)
        inputs = RerankingInputs(**values)
        model = PSADModel(config, inputs.schema)
        load_model(model, str(directory / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError, TypeError) as error:
        raise DataError(f"The run in {directory} is damaged ({error}); train or export it again.") from error
    return OpenedRun(model.eval(), inputs)
