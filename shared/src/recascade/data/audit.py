"""Does training data hold what a split holds out? An audit of any data set against a split, user by user.

Two things are leaks whoever made the data. A *copied event*: a row of a user has one of the user's held-out events. A
*transition*: the user's held-out item stands beside the item that it follows in the user's whole history (in all
domains, or in its own), in a row of the user that did not have it there in training.

Events that a model made up (the column ``origin`` says so) are another matter: a good model guesses some of what a user
does next, as it does in the test, from training events alone. Such guesses are counted apart. Whether they are honest
is decided by a *twin*: data made in the same way from a log in which users' held-out events changed places
(``recascade.data.twin``). Where nothing held out reaches the training rows, both have the same rows, bit by bit; every
row that differs is a leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recascade.data.dataset import Dataset
from recascade.data.domains import DOMAIN
from recascade.data.split import Split
from recascade.data.split_parts import GIVEN_PART
from recascade.data.ties import order_events
from recascade.errors import DataError

ROW_OWNER = "source_user_id"
"""Optional column of a log: the user whose history a row was made from, where ``user_id`` names a made-up user."""
_STEP = ("from_item", "item_id")
_LEAK = {"user_id": pl.String, "kind": pl.String, "from_item": pl.String, "item_id": pl.String, "count": pl.Int64}


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        users: users with held-out events.
        users_in_rows: those of them who have rows in the data set.
        leaks: ``user_id``, ``kind`` (``event``, ``transition`` or ``twin``), ``from_item`` (of transitions),
            ``item_id`` (null for twins) and ``count``, sorted by user.
        guesses: made-up events of users' own rows whose item is one that is held out of them.
        guessing_users: users with such events.
    """

    users: int
    users_in_rows: int
    leaks: pl.DataFrame
    guesses: int
    guessing_users: int

    @property
    def count(self) -> int:
        """Leaks of both kinds."""
        return int(self.leaks["count"].sum())

    @property
    def leaking_users(self) -> int:
        """Users with at least one leak."""
        return self.leaks["user_id"].n_unique()


def audit(dataset: Dataset, against: Split, twin: Dataset | None = None) -> Audit:
    """Look for held-out events and transitions of ``against`` in the training rows of ``dataset``.

    Training rows are the events whose column ``split_part`` says ``train``, or all events where there is no such
    column. Rows belong to the user in ``source_user_id`` where that column exists.

    Args:
        dataset: what will be trained on.
        against: the split whose held-out events must not be in it.
        twin: data made in the same way from ``write_twin(against)``, or None.

    Raises:
        DataError: the two have no user in common, so that the audit would say nothing.
    """
    rows = _rows(dataset)
    training = _history(against, ("train",))
    history = _history(against, ("train", "validation", "test"))
    held_out = history.filter(pl.col("part") != "train")
    users = held_out.select("user_id").unique()
    present = users.join(rows.select(user_id="owner").unique(), on="user_id", how="semi")
    if not len(present):
        raise DataError(
            f"No user of split {against.manifest.fingerprint} who has held-out events is in data set {dataset.name!r}; "
            "audit it against the split that it was made from."
        )
    found = [_copied(rows, held_out, training), _transitions(rows, history)]
    if twin is not None:
        found.append(_differing(rows, _rows(twin)))
    leaks = pl.concat([part.select([pl.col(name).cast(kind) for name, kind in _LEAK.items()]) for part in found])
    asked = held_out.select(owner="user_id", item_id="item_id").unique()
    guessed = rows.filter(~pl.col("original")).join(asked, on=["owner", "item_id"], how="semi")
    leaks = leaks.sort("user_id", "kind", "from_item", "item_id")
    return Audit(len(users), len(present), leaks, len(guessed), guessed["owner"].n_unique())


def _rows(dataset: Dataset) -> pl.DataFrame:
    """Training events in order: ``user_id`` (of the row), ``owner``, ``item_id``, ``original``."""
    log = dataset.interactions()
    columns = log.collect_schema()
    if GIVEN_PART in columns:
        log = log.filter(pl.col(GIVEN_PART) == "train")
    owner = pl.col(ROW_OWNER).fill_null(pl.col("user_id")) if ROW_OWNER in columns else pl.col("user_id")
    original = (pl.col("origin") == "original").fill_null(True) if "origin" in columns else pl.lit(True)
    order = [name for name in ("timestamp", "position") if name in columns]
    events = log.select("user_id", "item_id", *order, owner=owner, original=original).collect(engine="streaming")
    return order_events(events, "file", 0).select("user_id", "owner", "item_id", "original")


def _history(split: Split, parts: tuple[str, ...]) -> pl.DataFrame:
    """Events of these parts in order: ``user_id``, ``item_id``, ``part``, and ``domain`` ("" where there is none)."""
    pieces = []
    for name in parts:
        events = split.part(name)
        domain = pl.col(DOMAIN).cast(pl.String) if DOMAIN in events.collect_schema() else pl.lit("")
        pieces.append(events.select("user_id", "item_id", "position", part=pl.lit(name), domain=domain))
    return pl.concat(pieces).sort("user_id", "position").collect(engine="streaming").drop("position")


def _copied(rows: pl.DataFrame, held_out: pl.DataFrame, training: pl.DataFrame) -> pl.DataFrame:
    """Original events of a row beyond those that the owner's training part has of the item."""
    allowed = training.group_by(owner="user_id", item_id="item_id").len("allowed")
    counted = rows.filter("original").group_by("user_id", "owner", "item_id").len("count")
    surplus = counted.join(allowed, on=["owner", "item_id"], how="left").with_columns(
        pl.col("count").cast(pl.Int64) - pl.col("allowed").fill_null(0).cast(pl.Int64)
    )
    wanted = held_out.select(owner="user_id", item_id="item_id").unique()
    found = surplus.filter(pl.col("count") > 0).join(wanted, on=["owner", "item_id"], how="semi")
    return (
        found.group_by(user_id="owner", item_id="item_id")
        .agg(pl.col("count").sum())
        .with_columns(kind=pl.lit("event"), from_item=pl.lit(None, dtype=pl.String))
    )


def _transitions(rows: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
    """Held-out transitions, either way round, between events of rows that no model made up."""
    steps = _steps(history)
    held_out = pl.col("part") != "train"
    asked = steps.filter(held_out).select("user_id", *_STEP).unique()
    known = steps.filter(~held_out).select("user_id", *_STEP).unique()
    before = {name: pl.col(name).shift(1).over("user_id") for name in ("item_id", "original")}
    made = rows.with_columns(from_item=before["item_id"], before=before["original"]).filter("original", "before")
    there = made.select("from_item", "item_id", user_id="owner")
    back = made.select(from_item="item_id", item_id="from_item", user_id="owner")
    found = pl.concat([there, back]).join(asked, on=["user_id", *_STEP], how="semi")
    # A user who repeats a step has made it in training too; either way round, as above.
    for own in (known, known.rename({"from_item": "item_id", "item_id": "from_item"})):
        found = found.join(own, on=["user_id", *_STEP], how="anti")
    return found.group_by("user_id", *_STEP).len("count").with_columns(kind=pl.lit("transition"))


def _differing(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Users whose rows are not the same in the twin."""
    listed = [
        table.group_by("owner", "user_id", maintain_order=True)
        .agg(pl.col("item_id").str.join(", "))
        .rename({"item_id": name})
        for table, name in ((rows, "row"), (others, "twin"))
    ]
    both = listed[0].join(listed[1], on=["owner", "user_id"], how="full", coalesce=True)
    changed = both.filter(~pl.col("row").eq_missing(pl.col("twin")))
    nothing = pl.lit(None, dtype=pl.String)
    return (
        changed.group_by(user_id="owner")
        .len("count")
        .with_columns(kind=pl.lit("twin"), from_item=nothing, item_id=nothing)
    )


def _steps(events: pl.DataFrame) -> pl.DataFrame:
    """Each event with the one before it, in the whole history and in the history of its domain."""
    before = pl.col("item_id").shift(1)
    everywhere = events.with_columns(from_item=before.over("user_id"))
    inside = events.with_columns(from_item=before.over("user_id", "domain"))
    return pl.concat([everywhere, inside]).drop_nulls("from_item")
