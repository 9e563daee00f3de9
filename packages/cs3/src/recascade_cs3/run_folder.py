"""Names inside the folder of an online run, and the model that its checkpoints belong to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from recascade.errors import DataError
from recascade.files import read_json, write_json
from recascade.settings import compose_sections, flatten
from recascade_cs3.config import CS3Config

ONLINE_FOLDER = "online"
"""In the directory of a benchmark run; the folder of ``recascade cs3 learn`` is itself an online run."""
CATALOGUE_FOLDER = "catalogue"
COST_FILE = "cost.json"
_MODEL_FILE = "model.json"


def write_model(folder: Path, config: CS3Config, seed: int) -> None:
    """Leave the configuration that a learner of this folder must be made with."""
    write_json(folder / _MODEL_FILE, {"seed": seed, "model": asdict(config)})


def read_model(folder: Path) -> tuple[CS3Config, int]:
    """The configuration and the seed of a folder's learner.

    Raises:
        DataError: the folder is not that of an online run.
    """
    path = folder / _MODEL_FILE
    if not path.exists():
        raise DataError(
            f"{folder} is no run of CS3 (it has no {_MODEL_FILE}); name the folder of 'recascade cs3 learn' or of one "
            "run of 'recascade run cs3'."
        )
    stored: dict[str, Any] = read_json(path)
    sections = compose_sections({"model": CS3Config}, flatten({"model": stored["model"]}))
    return sections["model"], int(stored["seed"])
