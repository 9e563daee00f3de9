"""What the events of a log and the items of a catalogue are worth, from what the data say or from a simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.split import Split
from recascade.errors import DataError
from recascade.tokenizers.content import catalogue
from recascade_gr4ad.ad_simulator import TYPE_FACTORS, with_ads
from recascade_gr4ad.config import ValuesConfig
from recascade_gr4ad.conversion_teacher import ConversionTeacher

PER_MILLE = 1000.0
_SALES = "sales_value"
_COUPONS = ("coupon_disc", "coupon_match_disc")


@dataclass(frozen=True)
class AdValues:
    """Values of N events and I items.

    Attributes:
        events: float64 ``[N]``, in the order of ``EncodedSplit.events``; NaN where unknown.
        deep: bool ``[N]``, whether the action was a deep one (a purchase rather than a click).
        bids: float32 ``[I]``, money per conversion.
        teacher: how likely a request converts on an item.
        source: ``sales``, ``column``, ``catalogue`` or ``simulated``.
        synthetic: whether values were invented: never a base for claims about money.
    """

    events: NDArray[np.float64]
    deep: NDArray[np.bool_]
    bids: Tensor
    teacher: ConversionTeacher
    source: str
    synthetic: bool

    def expected(self, context: Context, items: Tensor) -> Tensor:
        """eCPM of items int64 ``[B, n]`` for B requests, float32 ``[B, n]``: 1000 · pCVR · bid. It is an estimate even
        where bids are real money, since pCVR is the teacher's."""
        return PER_MILLE * self.teacher.rates(context, items) * self.bids[items]


def ad_values(data: EncodedSplit, split: Split, config: ValuesConfig, seed: int) -> AdValues | None:
    """The values that a configuration asks for; None for ``source=none``.

    Bids of ``sales`` and ``column`` are the mean training value of an item's events, those of items without training
    events the mean of all.

    Args:
        data: the encoded split.
        split: the same one on disk.
        config: which values.
        seed: of the simulation and of the teacher.

    Raises:
        DataError: the data lack a column, or a value is negative or infinite.
    """
    source = _settled(split, config)
    if source == "none":
        return None
    teacher = ConversionTeacher.fit(data, config.teacher_dimension, seed)
    if source in ("sales", "column"):
        values = _event_values(data, split, source, config.column)
        bids, simulated_deep = _mean_by_item(data, values), None
    else:
        items = catalogue(split, data.items)
        if source == "simulated":
            items = with_ads(items, seed)
        bids = _catalogue_bids(items)
        values = PER_MILLE * teacher.logged_rates(data) * bids[np.asarray(data.events.items)]
        simulated_deep = _advertiser_returns(data, items) if source == "simulated" else None
    deep = _deep(data, split, config) if config.behaviour_column else simulated_deep
    return AdValues(
        events=values,
        deep=np.zeros(len(values), dtype=np.bool_) if deep is None else deep,
        bids=torch.from_numpy(bids.astype(np.float32)),
        teacher=teacher,
        source=source,
        synthetic=source == "simulated" or split.manifest.synthetic,
    )


def _settled(split: Split, config: ValuesConfig) -> str:
    if config.source != "auto":
        return config.source
    columns = split.part("train").collect_schema()
    if _SALES in columns:
        return "sales"
    if config.column in columns:
        return "column"
    items = split.items()
    listed = items is not None and {"bid", "conversion_type"} <= set(items.collect_schema())
    return "catalogue" if listed else "simulated"


def _event_values(data: EncodedSplit, split: Split, source: str, column: str) -> NDArray[np.float64]:
    needed = _SALES if source == "sales" else column

    def value(columns: Sequence[str]) -> pl.Expr:
        amount = pl.col(needed).cast(pl.Float64)
        # Coupons are paid by others, but not by the customer: what is left is what the purchase brought.
        for name in _COUPONS if source == "sales" else ():
            amount = amount - (pl.col(name).fill_null(0.0).abs() if name in columns else 0.0)
        return (amount.clip(lower_bound=0.0) if source == "sales" else amount).fill_null(float("nan"))

    values = event_column(data, split, needed, value, np.dtype(np.float64))
    wrong = (values < 0) | np.isinf(values)
    if wrong.any():
        raise DataError(
            f"{int(wrong.sum()):,} events have a negative or infinite {needed!r}, first {values[wrong.argmax()]}; ad "
            "values must be 0 or more. Remove or correct these events."
        )
    if np.isnan(values).all():
        raise DataError(f"No event has a {needed!r}; choose another model.values.source.")
    return values


def event_column(
    data: EncodedSplit, split: Split, needed: str, expression: Callable[[Sequence[str]], pl.Expr], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """A column of the split's events in the order of ``EncodedSplit.events``: ``[N]``.

    Args:
        data: the encoded split.
        split: the same one on disk.
        needed: the column that must be there.
        expression: what to compute, given the columns that there are.
        dtype: of the result.

    Raises:
        DataError: the events have no such column.
    """
    result = np.zeros(len(data.events.items), dtype=dtype)
    ends = data.events.offsets[:-1]
    for part in ("train", "validation"):
        frame = split.part(part)
        columns = frame.collect_schema().names()
        if needed not in columns:
            raise DataError(f"The events have no column {needed!r}; they have {', '.join(columns)}.")
        rows = frame.select("user_id", "item_id", expression(columns).alias("value")).collect(engine="streaming")
        if part == "validation":
            # Events of items that the vocabulary does not hold are not in a history.
            rows = rows.filter(pl.Series(data.items.encode(rows["item_id"], unknown=-1) >= 0))
        users = data.users.encode(rows["user_id"])
        order = np.argsort(users, kind="stable")
        lengths = np.bincount(users, minlength=len(data.users))
        result[ranges(ends, lengths)] = rows["value"].to_numpy()[order]
        ends = ends + lengths
    return result


def _mean_by_item(data: EncodedSplit, values: NDArray[np.float64]) -> NDArray[np.float64]:
    trained = ranges(data.events.offsets[:-1], data.train_lengths)
    trained = trained[~np.isnan(values[trained])]
    items, count = np.asarray(data.events.items)[trained], len(data.items)
    sums = np.bincount(items, weights=values[trained], minlength=count)
    counts = np.bincount(items, minlength=count)
    overall = float(values[trained].mean()) if len(trained) else 0.0
    means: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    return means


def _catalogue_bids(items: pl.DataFrame) -> NDArray[np.float64]:
    missing = [name for name in ("bid", "conversion_type") if name not in items.columns]
    if missing:
        raise DataError(
            f"The catalogue has no column {missing[0]!r}; make one with 'recascade gr4ad simulate', or set "
            "model.values.source=simulated."
        )
    bids = items["bid"].cast(pl.Float64).fill_null(0.0).to_numpy()
    kinds = items["conversion_type"].cast(pl.Int64).fill_null(0).to_numpy()
    if not ((bids >= 0) & np.isfinite(bids)).all() or not ((kinds >= 0) & (kinds < len(TYPE_FACTORS))).all():
        raise DataError(
            "A bid of the catalogue is negative or not finite, or a conversion type is not one of 0 to "
            f"{len(TYPE_FACTORS) - 1}; correct these items."
        )
    worth: NDArray[np.float64] = bids * np.array(TYPE_FACTORS)[kinds]
    return worth


def _advertiser_returns(data: EncodedSplit, items: pl.DataFrame) -> NDArray[np.bool_]:
    """bool ``[N]``: whether the user has the advertiser again in a later training event (synthetic deep actions)."""
    advertisers = items["advertiser_id"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    trained = ranges(data.events.offsets[:-1], data.train_lengths)
    users = np.repeat(np.arange(len(data.users)), data.train_lengths)
    keys = users * (int(advertisers.max(initial=0)) + 1) + advertisers[np.asarray(data.events.items)[trained]]
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), dtype=np.bool_)
    again[order[:-1]] = keys[order][1:] == keys[order][:-1]
    deep = np.zeros(len(data.events.items), dtype=np.bool_)
    deep[trained] = again
    return deep


def _deep(data: EncodedSplit, split: Split, config: ValuesConfig) -> NDArray[np.bool_]:
    column = config.behaviour_column

    def among(columns: Sequence[str]) -> pl.Expr:
        return pl.col(column).cast(pl.String).is_in(config.deep_behaviours).fill_null(False)

    return event_column(data, split, column, among, np.dtype(np.bool_))
