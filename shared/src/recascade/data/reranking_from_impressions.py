"""Candidate lists from logged impressions: what was shown together, in the order shown, and what was clicked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recascade.data.click import encode_clicks, temporal_parts
from recascade.data.events import offsets_of
from recascade.data.features import FeatureTable, build_features
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
    ``lists.gap`` seconds and at most ``lists.candidates`` of them, in the order of ``lists.place`` or else of their
    time; the next one begins a new list. An item that was shown twice keeps its first place, and is clicked if either
    was. The users' profile are the text columns whose name begins with ``user_`` (without ``user_id``); the history are
    a user's earlier clicks, where there is a ``user_id``. Items and profile values are numbered by the training lists
    alone.

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
    offsets = offsets_of(table.group_by("list", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy())
    starts, lengths = offsets[:-1], np.diff(offsets)
    times = np.minimum.reduceat(table["timestamp"].cast(pl.Int64).to_numpy(), starts)
    parts = np.empty(len(starts), dtype=np.int8)
    for number, rows in enumerate(temporal_parts(times, validation_fraction, test_fraction)):
        parts[rows] = number
    training = table.filter(pl.Series(np.repeat(parts == PARTS.index("train"), lengths)))
    profile = [name for name, kind in table.schema.items() if name.startswith("user_") and kind == pl.String]
    users, table = _users(table, training, profile, config.seed)
    known_items = Vocabulary.seeded(training["item_id"].unique(), config.seed, kind="item")
    log = encode_clicks(table, known_items, users, label=config.label)
    clicked = np.add.reduceat(log.labels > 0, starts, dtype=np.int64) > 0
    kept = clicked | (not config.clicked_only)
    counts = {part: int((parts[kept] == number).sum()) for number, part in enumerate(PARTS)}
    for part, count in counts.items():
        if not count:
            raise DataError(f"No {part} list of the impressions has a click; set lists.clicked_only=false.")
    chosen = np.repeat(kept, lengths)
    known_users = log.users[starts]
    # What the user had clicked before the first of the list was shown; a profile alone is nobody's history.
    history_ends = np.minimum.reduceat(log.history_ends, starts)
    if "user_id" not in profile:
        history_ends = log.clicks.offsets[np.maximum(known_users, 0)]
    every_item = np.ones(len(known_items), dtype=bool)
    return RerankingLists(
        inputs=catalogue_inputs(
            None if items is None else build_features(items, "item_id", known_items.ids, every_item),
            np.bincount(known_items.encode(training["item_id"]), minlength=len(known_items)).astype(np.int64),
            _profiles(table, training, users, [name for name in profile if name != "user_id"], config.seed),
            len(users),
            candidates=config.candidates,
            history=config.history,
        ),
        ids=table["list_id"].gather(starts[kept].tolist()),
        users=known_users[kept],
        times=times[kept],
        events=log.clicks,
        history_ends=history_ends[kept],
        offsets=offsets_of(lengths[kept]),
        items=log.items[chosen].astype(np.int32),
        scores=np.full(int(chosen.sum()), np.nan, dtype=np.float32),
        labels=log.labels[chosen],
        features=np.zeros((int(chosen.sum()), 0), dtype=np.float32),
        parts=parts[kept],
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
    if config.place:
        # Before requests are cut: the first list of a long one holds its first places, whatever the log's order.
        ordered = ordered.sort("request", config.place, maintain_order=True)
    place = pl.int_range(pl.len()).over("request")
    ordered = ordered.with_columns(list=pl.struct("request", place // config.candidates).rle_id())
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
    users = Vocabulary.seeded(training.select(named.alias("user"))["user"].drop_nulls().unique(), seed, kind="user")
    return users, table.with_columns(user=named).with_columns(user_id="user")


def _profiles(
    table: pl.DataFrame, training: pl.DataFrame, users: Vocabulary, columns: Sequence[str], seed: int
) -> FeatureTable:
    """Each user's first values, as codes of the values that training lists hold; 0 for others."""
    rows = users.ids.to_frame("user").join(table.unique("user", keep="first"), on="user", maintain_order="left")
    values = [Vocabulary.seeded(training[name].drop_nulls().unique(), seed) for name in columns]
    codes = [known.encode(rows[name], unknown=-1) + 1 for name, known in zip(columns, values, strict=True)]
    return FeatureTable(
        categorical=np.stack(codes, axis=1).astype(np.int32) if codes else np.zeros((len(users), 0), dtype=np.int32),
        categorical_names=tuple(columns),
        cardinalities=tuple(len(known) + 1 for known in values),
        numeric=np.zeros((len(users), 0), dtype=np.float32),
        numeric_names=(),
    )
