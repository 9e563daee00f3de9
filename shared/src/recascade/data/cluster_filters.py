"""Time window and k-core with all machines of a Ray cluster: the same events stay as in ``filters``, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.cluster import ray_cluster
from recascade.data.cluster_pieces import Row, map_pieces, require_shared, shared_scratch
from recascade.data.dataset import Dataset
from recascade.data.filters import ordered_only, time_window, write_filtered
from recascade.data.split_config import SplitConfig, parse_time
from recascade.errors import ConfigurationError
from recascade.files import require_new_folder, write_atomically

PIECE_EVENTS = 4_000_000
"""Events of a piece; a task holds the two identifiers of that many at once."""
_KEYS = ("user_id", "item_id")


def write_filtered_on_cluster(
    dataset: Dataset,
    config: SplitConfig,
    destination: Path,
    address: str | None = None,
    piece_events: int = PIECE_EVENTS,
) -> Dataset:
    """Do what ``write_filtered`` does, counting and selecting in pieces wherever Ray has room.

    This machine checks the log and writes the result, each in one pass that holds nothing whole; beside it keeps one
    count per user and item.

    Args:
        dataset: where the events come from; all machines must see its folder at the same path.
        config: its time window and k-core are used.
        destination: a folder that does not exist yet or is empty, shared likewise.
        address: of the cluster; None starts one on this machine.
        piece_events: events that a task works on.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: a rule of deduplication, which needs all events of a pair in one place; or no cluster at the
            address.
        DataError: nothing is left, or the destination is taken or not shared.
    """
    if config.deduplicate != "none":
        raise ConfigurationError(
            f"--deduplicate {config.deduplicate} does not work with --runner ray, which never has all events of a user "
            "in one place; deduplicate first, without it."
        )
    require_new_folder(destination)
    with ray_cluster(address) as ray, shared_scratch(destination) as scratch:
        steps = _Steps(dataset.path.resolve(), config, scratch, piece_events)
        return write_filtered(dataset, config, destination, lambda *_: _apply(ray, steps, destination))


@dataclass(frozen=True)
class _Steps:
    """What every task knows.

    Attributes:
        log: folder of the data set.
        config: the filters.
        scratch: where pieces are written.
        piece_events: events of a piece.
    """

    log: Path
    config: SplitConfig
    scratch: Path
    piece_events: int

    def events(self, piece: Row) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        """The events of a piece as they are, those with an order, and of these the ones in the time window."""
        read = Dataset.open(self.log).interactions().slice(piece["number"] * self.piece_events, self.piece_events)
        ordered = ordered_only(read)
        since, until = parse_time(self.config.since, "since"), parse_time(self.config.until, "until")
        return read, ordered, time_window(ordered, since, until)

    def file(self, piece: Row, name: str) -> Path:
        """Where a task writes."""
        return self.scratch / f"{piece['number']:06d}-{name}"


def _apply(ray: ModuleType, steps: _Steps, destination: Path) -> tuple[pl.LazyFrame, dict[str, int]]:
    """The events that stay, and how many each step left out, as ``filters.apply_filters`` tells them."""
    config = steps.config
    total = Dataset.open(steps.log).interactions().select(pl.len()).collect().item()
    pieces: list[Row] = [{"number": number} for number in range(max(1, -(-total // steps.piece_events)))]
    found = map_pieces(ray, partial(_count, steps), pieces)
    require_shared(steps.file(pieces[0], "user_id.parquet"), destination)
    read, ordered, timely = (sum(row[name] for row in found) for name in ("read", "ordered", "timely"))
    counts = {"read": read, "dropped_without_order": read - ordered}
    if config.since or config.until:
        counts["dropped_by_time"] = ordered - timely
    core = config.user_min_events > 1 or config.item_min_events > 1
    if core:
        _write_core(ray, steps, pieces)
    kept = sum(row["kept"] for row in map_pieces(ray, partial(_select, steps, core), pieces))
    if core:
        counts["dropped_by_core"] = timely - kept
    counts["kept"] = kept
    return pl.scan_parquet([steps.file(piece, "kept.parquet") for piece in pieces]), counts


def _write_core(ray: ModuleType, steps: _Steps, pieces: list[Row]) -> None:
    """Count in rounds until nobody falls below the minimum; write the identifiers that stay."""
    ids = {key: _distinct(steps, pieces, key) for key in _KEYS}
    for key, known in ids.items():
        known.to_frame(key).write_parquet(steps.scratch / f"{key}.parquet")
    map_pieces(ray, partial(_encode, steps), pieces)
    minimums = {"user_id": steps.config.user_min_events, "item_id": steps.config.item_min_events}
    kept = {key: np.ones(len(known), dtype=np.bool_) for key, known in ids.items()}
    before = -1
    while (remaining := sum(int(flags.sum()) for flags in kept.values())) != before:
        before = remaining
        map_pieces(ray, partial(_count_kept, steps, kept), pieces)
        kept = {key: _total(steps, pieces, key) >= max(1, minimums[key]) for key in _KEYS}
    for key, known in ids.items():
        known.filter(pl.Series(kept[key])).to_frame(key).write_parquet(steps.scratch / f"{key}.parquet")


def _distinct(steps: _Steps, pieces: list[Row], key: str) -> pl.Series:
    files = [steps.file(piece, f"{key}.parquet") for piece in pieces]
    return pl.scan_parquet(files).unique().collect(engine="streaming")[key].sort()


def _total(steps: _Steps, pieces: list[Row], key: str) -> NDArray[np.int64]:
    first, *others = (steps.file(piece, f"{key}-counts.npy") for piece in pieces)
    total: NDArray[np.int64] = np.load(first)
    for file in others:
        total += np.load(file)
    return total


def _count(steps: _Steps, piece: Row) -> Row:
    """How many events of a piece each step keeps; beside, write its distinct identifiers."""
    read, ordered, timely = steps.events(piece)
    for key in _KEYS:
        with write_atomically(steps.file(piece, f"{key}.parquet")) as temporary:
            timely.select(pl.col(key).unique()).sink_parquet(temporary)
    named = {"read": read, "ordered": ordered, "timely": timely}
    return {name: frame.select(pl.len()).collect(engine="streaming").item() for name, frame in named.items()}


def _encode(steps: _Steps, piece: Row) -> Row:
    """Write the events of a piece as numbers of users and items."""
    timely = steps.events(piece)[2]
    for key in _KEYS:
        known = pl.read_parquet(steps.scratch / f"{key}.parquet")[key]
        codes = timely.select(pl.col(key).cast(pl.Enum(known)).to_physical()).collect(engine="streaming")[key]
        with write_atomically(steps.file(piece, f"{key}-codes.npy")) as temporary, temporary.open("wb") as file:
            np.save(file, codes.to_numpy())
    return {}


def _count_kept(steps: _Steps, kept: dict[str, NDArray[np.bool_]], piece: Row) -> Row:
    """Count per user and item the events of a piece whose user and item both stay so far."""
    codes = {key: np.load(steps.file(piece, f"{key}-codes.npy")) for key in _KEYS}
    both = kept["user_id"][codes["user_id"]] & kept["item_id"][codes["item_id"]]
    for key in _KEYS:
        counts = np.bincount(codes[key][both], minlength=len(kept[key]))
        with write_atomically(steps.file(piece, f"{key}-counts.npy")) as temporary, temporary.open("wb") as file:
            np.save(file, counts)
    return {}


def _select(steps: _Steps, core: bool, piece: Row) -> Row:
    """Write the events of a piece that stay."""
    events = steps.events(piece)[2]
    if core:
        for key in _KEYS:
            survivors = pl.scan_parquet(steps.scratch / f"{key}.parquet")
            events = events.join(survivors, on=key, how="semi", maintain_order="left")
    with write_atomically(steps.file(piece, "kept.parquet")) as temporary:
        events.sink_parquet(temporary)
        return {"kept": pl.scan_parquet(temporary).select(pl.len()).collect().item()}
