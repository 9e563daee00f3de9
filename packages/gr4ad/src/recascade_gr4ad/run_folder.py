"""What a run leaves behind so that it can be served, and how it is read again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model

from recascade.data.features import FeatureTable
from recascade.data.newest_events import newest_events
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.files import read_json, write_atomically, write_folder_atomically, write_json
from recascade.settings import compose_sections, flatten
from recascade.tokenizers.run_ids import IDS_FILE
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import load_semantic_ids, require_signature, signature
from recascade_gr4ad.build import build_decoder, codes_of
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.lazy_ar import LazyAR
from recascade_gr4ad.value_buckets import ValueBuckets

if TYPE_CHECKING:
    from recascade.data.encoded import EncodedSplit
    from recascade_gr4ad.ad_values import AdValues

TEXT_ENCODER = "text_encoder.parquet"
PREFERENCE_FOLDER = "preference"
_FACTS = "served.json"
_ITEMS = "served_items.parquet"
_USERS = "served_users.parquet"
_USER_FEATURES = "served_user_features"
_WEIGHTS = "served.safetensors"


@dataclass(frozen=True)
class ServedRun:
    """A run as a service needs it.

    Attributes:
        settings: of the method.
        model: with the trained weights, in evaluation mode.
        ids: of its items, with the tokenizer for new ones.
        items: the I items of the vocabulary, in the model's numbering.
        popularity: int64 ``[I]``, training events.
        histories: user → newest items of the log, oldest first, as numbers of ``items``.
        users: user → the model's number.
        buckets: of the eCPM step, or None.
        synthetic: whether what the model learnt of values was invented.
        source: of the values.
    """

    settings: GR4ADConfig
    model: LazyAR
    ids: SemanticIds
    items: Vocabulary
    popularity: NDArray[np.int64]
    histories: dict[str, list[int]]
    users: dict[str, int]
    buckets: ValueBuckets | None
    synthetic: bool
    source: str


def write_run(
    directory: Path,
    settings: GR4ADConfig,
    data: EncodedSplit,
    ids: SemanticIds,
    buckets: ValueBuckets | None,
    values: AdValues | None,
    model: LazyAR,
) -> None:
    """Leave the model, the vocabularies and the users' newest items in a run directory; the facts come last, so that
    a folder with them is complete."""
    with write_atomically(directory / _WEIGHTS) as temporary:
        save_model(model, str(temporary))
    items = pl.DataFrame({"item_id": data.items.ids, "popularity": data.item_counts})
    users = newest_events(data, settings.max_length).drop("timestamps")
    for frame, name in ((items, _ITEMS), (users, _USERS)):
        with write_atomically(directory / name) as temporary:
            frame.write_parquet(temporary)
    features = directory / _USER_FEATURES
    if settings.user_features and data.user_features is not None and not features.is_dir():
        with write_folder_atomically(features) as folder:
            data.user_features.save(folder / "table")
    write_json(
        directory / _FACTS,
        {
            "model": asdict(settings),
            "ids": signature(ids),
            "value_edges": None if buckets is None else buckets.edges.tolist(),
            "value_means": None if buckets is None else buckets.means.tolist(),
            "value_source": "none" if values is None else values.source,
            "synthetic_values": values is not None and values.synthetic,
        },
    )


def read_run(directory: Path) -> ServedRun:
    """What ``write_run`` left.

    Raises:
        DataError: the folder is not that of a finished run, or its ids are not those of the training.
    """
    if not (directory / _FACTS).is_file():
        raise DataError(
            f"{directory} is no finished run of GR4AD (it has no {_FACTS}); name the folder of one seed of "
            "'recascade run gr4ad'."
        )
    facts: dict[str, Any] = read_json(directory / _FACTS)
    settings: GR4ADConfig = compose_sections({"model": GR4ADConfig}, flatten({"model": facts["model"]}))["model"]
    ids = load_semantic_ids(directory / IDS_FILE)
    require_signature(ids, facts["ids"], directory / IDS_FILE)
    items = pl.read_parquet(directory / _ITEMS)
    # A table made for a larger catalogue holds items that the model has no number for.
    ids.delete(sorted(set(ids.item_ids) - set(items["item_id"])))
    users = pl.read_parquet(directory / _USERS)
    vocabulary = Vocabulary(items["item_id"], kind="item")
    features = directory / _USER_FEATURES / "table"
    means = facts["value_means"]
    buckets = None if means is None else ValueBuckets(np.array(facts["value_edges"]), np.array(means))
    model = build_decoder(
        settings,
        codes_of(ids, vocabulary),
        ids.sizes,
        0 if buckets is None else len(buckets),
        FeatureTable.load(features) if features.is_dir() else None,
    )
    load_model(model, directory / _WEIGHTS)
    names = users["user_id"].to_list()
    return ServedRun(
        settings=settings,
        model=model.eval(),
        ids=ids,
        items=vocabulary,
        popularity=items["popularity"].to_numpy(),
        histories=dict(zip(names, users["items"].to_list(), strict=True)),
        users={name: number for number, name in enumerate(names)},
        buckets=buckets,
        synthetic=bool(facts["synthetic_values"]),
        source=str(facts["value_source"]),
    )
