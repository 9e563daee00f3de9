"""What a run leaves behind so that it can be served, and how it is read again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from recascade.contracts.context import Context
from recascade.data.newest_events import newest_events
from recascade.errors import DataError
from recascade.files import read_json, write_atomically, write_json
from recascade.settings import compose_sections, flatten
from recascade_relaygr.build import build
from recascade_relaygr.config import RelayGRConfig
from recascade_relaygr.ranker.hstu_ranker import HSTURanker

if TYPE_CHECKING:
    from recascade.data.encoded import EncodedSplit

_FACTS = "served.json"
_ITEMS = "served_items.parquet"
_USERS = "served_users.parquet"
_WEIGHTS = "served.safetensors"


@dataclass(frozen=True)
class ServedRun:
    """A run as a service needs it.

    Attributes:
        settings: of the method.
        model: with the trained weights, in evaluation mode.
        version: of the weights.
        items: item → the model's number.
        histories: user → the events of the log, as a request.
    """

    settings: RelayGRConfig
    model: HSTURanker
    version: str
    items: dict[str, int]
    histories: dict[str, Context]


def write_run(directory: Path, settings: RelayGRConfig, data: EncodedSplit, model: HSTURanker) -> None:
    """Leave the model, the vocabulary and the users' newest events in a run directory; the facts come last, so that a
    folder with them is complete."""
    with write_atomically(directory / _WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    # Twice what the model reads: the oldest events of a longer history fall away in whole blocks.
    users = newest_events(data, 2 * settings.max_length)
    for frame, name in ((pl.DataFrame({"item_id": data.items.ids}), _ITEMS), (users, _USERS)):
        with write_atomically(directory / name) as temporary:
            frame.write_parquet(temporary)
    write_json(directory / _FACTS, {"model": asdict(settings), "has_times": model.time_buckets > 0})


def read_run(directory: Path) -> ServedRun:
    """What ``write_run`` left.

    Raises:
        DataError: the folder is not that of a finished run.
    """
    if not (directory / _FACTS).is_file():
        raise DataError(
            f"{directory} is no finished run of RelayGR (it has no {_FACTS}); name the folder of one seed of "
            "'recascade run relaygr'."
        )
    facts: dict[str, Any] = read_json(directory / _FACTS)
    settings: RelayGRConfig = compose_sections({"model": RelayGRConfig}, flatten({"model": facts["model"]}))["model"]
    items = pl.read_parquet(directory / _ITEMS)["item_id"].to_list()
    model = build(settings, len(items), has_times=facts["has_times"])
    model.load_state_dict(load_file(directory / _WEIGHTS))
    users = pl.read_parquet(directory / _USERS)
    columns = (users[name].to_list() for name in ("user_id", "items", "timestamps"))
    return ServedRun(
        settings=settings,
        model=model.eval(),
        version=blake2b((directory / _WEIGHTS).read_bytes(), digest_size=6).hexdigest(),
        items={name: number for number, name in enumerate(items)},
        histories={user: request_of(events or [], times or []) for user, events, times in zip(*columns, strict=True)},
    )


def request_of(items: list[int], timestamps: list[int], now: int | None = None) -> Context:
    """One request of a user with these events, oldest first.

    Args:
        items: the model's numbers.
        timestamps: seconds, one for each item.
        now: time of the request in seconds; None for that of the newest event.
    """
    return Context(
        users=torch.zeros(1, dtype=torch.int64),
        items=torch.tensor(items, dtype=torch.int64),
        timestamps=torch.tensor(timestamps, dtype=torch.int64),
        offsets=torch.tensor([0, len(items)]),
        now=None if now is None else torch.tensor([now]),
    )
