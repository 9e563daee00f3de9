"""How items and users are called: in the data that a run was trained on, or in an exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from recascade.data.encode import encode
from recascade.data.reranking_inputs import RerankingInputs
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.data.split_config import SplitConfig
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.settings import compose_sections, flatten

_ITEMS, _USERS = "items.parquet", "users.parquet"
_RUN_CONFIG = "config.yaml"
Identifiers = tuple[Vocabulary, Vocabulary]


def write_identifiers(folder: Path, identifiers: Identifiers) -> None:
    """Leave the identifiers of items and users in an exported folder."""
    for vocabulary, name in zip(identifiers, (_ITEMS, _USERS), strict=True):
        vocabulary.save(folder / name)


def find_identifiers(directory: Path, inputs: RerankingInputs) -> Identifiers:
    """Items and users in the model's numbering; both empty where it knows candidates by their features only.

    Args:
        directory: of an exported student, or of one seed of ``recascade run psad``, whose data are then opened.
        inputs: of the model.

    Raises:
        DataError: the data are not there any more, or not as they were.
    """
    if not len(inputs.item_fields):
        return Vocabulary([], kind="item"), Vocabulary([], kind="user")
    if (directory / _ITEMS).is_file():
        return Vocabulary.load(directory / _ITEMS, kind="item"), Vocabulary.load(directory / _USERS, kind="user")
    if not (directory / _RUN_CONFIG).is_file():
        raise DataError(
            f"{directory} does not say how its items are called (it has neither {_ITEMS} nor {_RUN_CONFIG}); name the "
            "folder of one seed of 'recascade run psad'."
        )
    config: dict[str, Any] = yaml.safe_load((directory / _RUN_CONFIG).read_text(encoding="utf-8"))
    split = compose_sections({"split": SplitConfig}, flatten({"split": config["split"]}))["split"]
    data = encode(cached_split(resolve(config["data"]), split))
    if len(data.items) != len(inputs.item_fields) or len(data.users) != len(inputs.user_profiles):
        raise DataError(
            f"The data {config['data']!r} of {directory} have changed since it was trained; train again, or export "
            "before the data change."
        )
    return data.items, data.users
