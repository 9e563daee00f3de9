"""The twin of a split: the same training events, but other users' held-out ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.domains import DOMAIN
from recascade.data.split import Split
from recascade.files import require_new_folder, write_folder_atomically, write_json


def write_twin(
    split: Split, destination: Path, *, parts: tuple[str, ...] = ("validation", "test"), seed: int = 0
) -> Dataset:
    """Write a log whose training events are those of a split, while held-out items change places between users.

    The items of a part are exchanged among the users whose held-out event is of the same domain, so that who is
    evaluated where stays the same. Split it by the same protocol with ``ties=file`` and without filters, which have
    done their work: its training part is that of the original, event by event.

    Args:
        split: leave-one-out or any other.
        destination: a folder that does not exist yet or is empty.
        parts: ``validation``, ``test`` or both. Leave validation as it is where a model is chosen by it.
        seed: of the exchange.
    """
    require_new_folder(destination)
    random = np.random.default_rng(seed)
    pieces = [split.part("train").collect(engine="streaming")]
    for name in ("validation", "test"):
        events = split.part(name).drop("target").collect(engine="streaming")
        pieces.append(_exchanged(events, random) if name in parts else events)
    with write_folder_atomically(destination) as folder:
        log = pl.concat(pieces).drop("group").sort("user_id", "position")
        log.write_parquet(folder / "interactions.parquet")
        for table, rows in (("items", split.items()), ("users", split.users())):
            if rows is not None:
                rows.sink_parquet(folder / f"{table}.parquet")
        facts = {
            "name": f"{split.manifest.dataset}-twin",
            "adapter": "twin",
            "source": f"{split.manifest.dataset}, split {split.manifest.fingerprint}, held-out items exchanged",
            "terms": split.manifest.terms,
            # Nobody did what its held-out part says.
            "synthetic": True,
        }
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def _exchanged(events: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    keys = (
        events[DOMAIN].cast(pl.String) if DOMAIN in events.columns else pl.Series([""] * len(events), dtype=pl.String)
    )
    order = np.arange(len(events))
    for key in keys.unique().sort():
        rows = np.flatnonzero((keys == key).to_numpy())
        order[rows] = random.permutation(rows)
    return events.with_columns(events["item_id"].gather(order))
