"""Candidate lists from logged impressions: what was shown together, in the order shown, and what was clicked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recascade.data.click import encode_clicks, temporal_parts
from recascade.data.events import offsets_of
from recascade.data.features import build_features
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_features import catalogue_inputs
from recascade.data.reranking_lists import PARTS, RerankingLists
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError, did_you_mean


def lists_from_impressions(
    impressions: pl.DataFrame,
    items: pl.DataFrame | None,
    config: ListsConfig,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> RerankingLists:
    """Put the impressions of each request together, and cut the requests by time.

    A request are the impressions that agree in the columns ``lists.request``, without a pause of more than
    ``lists.gap`` seconds and at most ``lists.candidates`` of them; the next one begins a new list. An item that was
    shown twice keeps its first place, and is clicked if either was. The users' profile are the text columns whose name
    begins with ``user_`` (without ``user_id``); the history are a user's earlier clicks, where there is a ``user_id``.
    Items and profile values are numbered by the training lists alone.

    Args:
        impressions: ``item_id``, ``timestamp`` (seconds), the label and the columns that ``config`` names.
        items: features of the items, one row per ``item_id``, or None.
        config: see above.
        validation_fraction: share of the lists before the test lists that validate, the latest.
        test_fraction: share of the lists that test, the latest of all.

    Raises:
        DataError: a column is missing or null, or a part has no list.
    """
    config.check()
    _check_columns(impressions, config)
    table = _with_lists(impressions, config)
    starts = np.flatnonzero(np.diff(table["list"].to_numpy(), prepend=-1))
    times = np.minimum.reduceat(table["timestamp"].cast(pl.Int64).to_numpy(), starts)
    parts = np.empty(len(starts), dtype=np.int8)
    for number, rows in enumerate(temporal_parts(times, validation_fraction, test_fraction)):
        parts[rows] = number
    training = table.filter(pl.Series(np.repeat(parts == 0, np.diff(np.append(starts, len(table))))))
    profile = sorted(name for name in table.columns if name.startswith("user_") and table.schema[name] == pl.String)
    known_items = Vocabulary.seeded(training["item_id"].unique(), config.seed, kind="item")
    users, table = _users(table, training, profile, config.seed)
    log = encode_clicks(table, known_items, users, label=config.label)
    clicked = np.add.reduceat(log.labels > 0, starts, dtype=np.int64) > 0
    kept = clicked | (not config.clicked_only)
    rows = np.flatnonzero(np.repeat(kept, np.diff(np.append(starts, len(table)))))
    lists = np.flatnonzero(kept)
    counts = {part: int((parts[lists] == number).sum()) for number, part in enumerate(PARTS)}
    for part, count in counts.items():
        if not count:
            raise DataError(f"No {part} list of the impressions has a click; set lists.clicked_only=false.")
    events = log.clicks
    known_users = log.users[starts[lists]]
    begins = events.offsets[np.maximum(known_users, 0)]
    lengths = np.diff(np.append(starts, len(table)))[lists]
    ids = table["list_id"].gather(starts[lists].tolist())
    user_table = table.unique("user", keep="first").select("user", *(name for name in profile if name != "user_id"))
    item_counts = np.bincount(known_items.encode(training["item_id"]), minlength=len(known_items))
    return RerankingLists(
        inputs=catalogue_inputs(
            build_features(items, "item_id", known_items.ids, np.ones(len(known_items), bool))
            if items is not None
            else None,
            item_counts.astype(np.int64),
            build_features(user_table, "user", users.ids, np.ones(len(users), bool)),
            len(users),
            candidates=config.candidates,
            history=config.history,
        ),
        ids=ids,
        users=known_users,
        times=times[lists],
        events=events,
        # What the user had clicked before the first of the list was shown.
        history_ends=np.minimum.reduceat(log.history_ends, starts)[lists] if "user_id" in profile else begins,
        offsets=offsets_of(lengths),
        items=log.items[rows].astype(np.int32),
        scores=np.full(len(rows), np.nan, dtype=np.float32),
        labels=log.labels[rows],
        features=np.zeros((len(rows), 0), dtype=np.float32),
        parts=parts[lists],
        facts={"initial": "as shown", "lists": counts, "share_without_click": float(1 - clicked.mean())},
    )


def _check_columns(impressions: pl.DataFrame, config: ListsConfig) -> None:
    wanted = ["item_id", "timestamp", config.label, *config.request, *([config.place] if config.place else [])]
    for column in wanted:
        if column not in impressions.columns:
            hint = did_you_mean(column, impressions.columns)
            raise DataError(
                f"The impressions have no column {column!r}.{hint} Name what belongs together by lists.request, the "
                "label by lists.label."
            )
        if impressions[column].has_nulls():
            row = int(impressions[column].is_null().arg_max() or 0)
            raise DataError(f"Column {column!r} of the impressions is null in row {row}; fill or drop such rows.")


def _with_lists(impressions: pl.DataFrame, config: ListsConfig) -> pl.DataFrame:
    """The impressions list by list, each item once, with the columns ``list`` (a number) and ``list_id``."""
    ordered = impressions.sort([*config.request, "timestamp"], maintain_order=True)
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in config.request)
    if config.gap:
        changed |= pl.col("timestamp").diff() > config.gap
    ordered = ordered.with_columns(request=changed.fill_null(value=True).cum_sum())
    place = pl.int_range(pl.len()).over("request")
    ordered = ordered.with_columns(list=pl.struct("request", place // config.candidates).rle_id())
    if config.place:
        ordered = ordered.sort("list", config.place, maintain_order=True)
    label = pl.col(config.label).max().over("list", "item_id")
    once = ordered.with_columns(label).unique(["list", "item_id"], keep="first", maintain_order=True)
    named = pl.concat_str([pl.col(name).cast(pl.String) for name in config.request], separator="/")
    return once.with_columns(list_id=pl.concat_str(named, pl.col("list").cast(pl.String), separator="/"))


def _users(
    table: pl.DataFrame, training: pl.DataFrame, profile: Sequence[str], seed: int
) -> tuple[Vocabulary, pl.DataFrame]:
    """Who asks: the ``user_id``, or each combination of profile values; put into the column ``user_id`` too."""
    if not profile:
        return Vocabulary([], kind="user"), table.with_columns(user=pl.lit(""), user_id=pl.lit(""))
    named = pl.col("user_id") if "user_id" in profile else pl.concat_str(profile, separator="/", ignore_nulls=True)
    users = Vocabulary.seeded(training.select(named.alias("user"))["user"].unique(), seed, kind="user")
    return users, table.with_columns(user=named).with_columns(user_id="user")
