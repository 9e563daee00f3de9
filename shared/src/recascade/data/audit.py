"""Does training data hold what a split holds out? An audit of any data set against a split, user by user.

Two things count as a leak. A *copied event*: a row of a user has one of the user's held-out events as an original one.
A *transition*: in a row of a user, the user's held-out item stands right behind the item that it follows in the user's
whole history (in all domains, or in its own), although no user has both items in training. Where somebody has both, a
model may have learnt honestly that one goes with the other, so such transitions are counted apart, as learnable.
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


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        users: users with held-out events.
        users_in_rows: those of them who have rows in the data set.
        leaks: ``user_id``, ``kind`` (``event`` or ``transition``), ``from_item`` (null for events), ``item_id`` and
            ``count``, sorted by user.
        learnable: held-out transitions in a user's own rows whose two items some user has in training.
    """

    users: int
    users_in_rows: int
    leaks: pl.DataFrame
    learnable: int

    @property
    def count(self) -> int:
        """Leaks of both kinds."""
        return int(self.leaks["count"].sum())

    @property
    def leaking_users(self) -> int:
        """Users with at least one leak."""
        return self.leaks["user_id"].n_unique()


def audit(dataset: Dataset, against: Split) -> Audit:
    """Look for held-out events and transitions of ``against`` in the training rows of ``dataset``.

    Training rows are the events whose column ``split_part`` says ``train``, or all events where there is no such
    column. Rows belong to the user in ``source_user_id`` where that column exists.

    Args:
        dataset: what will be trained on.
        against: the split whose held-out events must not be in it.

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
    leaked, learnable = _transitions(rows, history, training)
    leaks = pl.concat([_copied(rows, held_out, training), leaked]).sort("user_id", "kind", "item_id")
    return Audit(len(users), len(present), leaks, learnable)


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
        .select(
            "user_id",
            pl.lit("event").alias("kind"),
            pl.lit(None, dtype=pl.String).alias("from_item"),
            "item_id",
            "count",
        )
    )


def _transitions(rows: pl.DataFrame, history: pl.DataFrame, training: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Held-out transitions in rows whose two items nobody has in training, and how many others there are."""
    asked = _steps(history).filter(pl.col("part") != "train").select("user_id", *_STEP).unique()
    made = (
        rows.with_columns(from_item=pl.col("item_id").shift(1).over("user_id"))
        .drop_nulls("from_item")
        .group_by(user_id="owner", from_item="from_item", item_id="item_id")
        .len("count")
        .with_columns(pl.col("count").cast(pl.Int64))
    )
    found = made.join(asked, on=["user_id", *_STEP], how="semi")
    owners = training.select("item_id", someone="user_id").unique()
    both = (
        found.select(_STEP)
        .unique()
        .join(owners, left_on="from_item", right_on="item_id")
        .join(owners, on=["item_id", "someone"], how="semi")
    )
    leaked = found.join(both, on=_STEP, how="anti")
    columns = ("user_id", pl.lit("transition").alias("kind"), "from_item", "item_id", "count")
    return leaked.select(columns), int(found["count"].sum()) - int(leaked["count"].sum())


def _steps(events: pl.DataFrame) -> pl.DataFrame:
    """Each event with the one before it, in the whole history and in the history of its domain."""
    before = pl.col("item_id").shift(1)
    everywhere = events.with_columns(from_item=before.over("user_id"))
    inside = events.with_columns(from_item=before.over("user_id", "domain"))
    return pl.concat([everywhere, inside]).drop_nulls("from_item")
