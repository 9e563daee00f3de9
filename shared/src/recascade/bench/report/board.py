"""A leaderboard: all configurations measured under one set of rules, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recascade.bench.report.comparison import Difference, UserMeans, check_same_users, compare, p_values, user_means
from recascade.bench.report.entry import Entry, EntryKey, gather, shared_overrides, typed_overrides
from recascade.bench.report.formatting import higher_is_better, metric_order
from recascade.bench.report.record import RunRecord
from recascade.bench.report.rules import Rules
from recascade.errors import DataError

DEFAULT_METRIC = "ndcg@10"


@dataclass(frozen=True)
class Board:
    """One leaderboard.

    Attributes:
        rules: what every table of this board names.
        data: the ``data`` record of the runs (name, fingerprint, synthetic, terms).
        split: the ``split`` record of the runs (counts, tied share).
        entries: every configuration.
        shown: the rows of the leaderboard; of a method's overrides only those that are best on validation.
        chosen_from: entry key → among how many configurations a shown row was chosen.
        metrics: metrics with one value per user, in print order.
        metric: the one shown first.
        reference: the entry that differences are taken to.
        to_reference: entry key → metric → difference to ``reference``, for shown entries other than the reference.
        to_leader: metric → entry key → corrected p-value against the entry that leads on this metric, for the others.
        user_means: entry key → per-user values.
        shared: overrides that all runs have in common, as typed.
    """

    rules: Rules
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    entries: tuple[Entry, ...]
    shown: tuple[Entry, ...]
    chosen_from: Mapping[EntryKey, int]
    metrics: tuple[str, ...]
    metric: str
    reference: Entry
    to_reference: Mapping[EntryKey, Mapping[str, Difference]]
    to_leader: Mapping[str, Mapping[EntryKey, float]]
    user_means: Mapping[EntryKey, UserMeans]
    shared: str

    def ranked(self, metric: str) -> list[Entry]:
        """The shown entries, best on this metric first."""
        return rank(self.shown, metric)

    def test_metrics(self) -> list[str]:
        """Every metric of the test part that any entry has, in print order: per user, by slice, and of whole lists."""
        names = {name for entry in self.entries for run in entry.runs for name in run.result["metrics"]["test"]}
        return sorted(names, key=metric_order)


def build_board(
    rules: Rules, runs: Sequence[RunRecord], *, metric: str | None, reference: str | None, every_configuration: bool
) -> Board:
    """Gather runs that share their rules, choose what to show, and compare.

    Raises:
        DataError: the runs share no per-user metric, or were evaluated on different users.
    """
    entries = gather(runs)
    metrics = per_user_metrics(runs)
    first = metric if metric in metrics else DEFAULT_METRIC if DEFAULT_METRIC in metrics else metrics[0]
    shown = entries if every_configuration else best_overrides(entries, first)
    means = {entry.key: user_means(entry.runs, metrics) for entry in entries}
    anchor = means[entries[0].key]
    for other in means.values():
        check_same_users(anchor, other)
    against = choose_reference(shown, first, reference)
    others = [entry for entry in shown if entry is not against]
    differences = compare([means[entry.key] for entry in others], means[against.key])
    to_leader: dict[str, dict[EntryKey, float]] = {}
    for name in metrics:
        leader, *rest = rank(shown, name)
        values = p_values([means[entry.key] for entry in rest], means[leader.key], name)
        to_leader[name] = {entry.key: value for entry, value in zip(rest, values, strict=True)}
    return Board(
        rules=rules,
        data=runs[0].result["data"],
        split=runs[0].result["split"],
        entries=tuple(entries),
        shown=tuple(shown),
        chosen_from=configurations_per_variant(entries) if len(shown) < len(entries) else {},
        metrics=tuple(metrics),
        metric=first,
        reference=against,
        to_reference={entry.key: difference for entry, difference in zip(others, differences, strict=True)},
        to_leader=to_leader,
        user_means=means,
        shared=typed_overrides(shared_overrides([entry.runs[0] for entry in entries])),
    )


def per_user_metrics(runs: Sequence[RunRecord]) -> list[str]:
    """Metrics that every run's per-user table has for all users (no slices), in print order.

    Raises:
        DataError: there are none.
    """
    common = set.intersection(*(set(run.metric_columns) for run in runs))
    measured = {name for run in runs for name, value in run.result["metrics"]["test"].items() if value is not None}
    metrics = sorted((name for name in common & measured if "/" not in name), key=metric_order)
    if not metrics:
        raise DataError(
            f"The {len(runs)} runs of split {runs[0].result['split']['fingerprint']} have no per-user metric in "
            "common; run them again with the same evaluation.metrics and evaluation.cutoffs."
        )
    return metrics


def best_overrides(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """Of each method and variant the configuration with the best validation value; never chosen on the test part."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.method, entry.variant), []).append(entry)
    return [rank(group, metric, part="validation")[0] for group in groups.values()]


def configurations_per_variant(entries: Sequence[Entry]) -> dict[EntryKey, int]:
    """Entry key → configurations of the same method and variant, where there are several."""
    counts: dict[tuple[str, str], int] = {}
    for entry in entries:
        counts[entry.method, entry.variant] = counts.get((entry.method, entry.variant), 0) + 1
    return {entry.key: count for entry in entries if (count := counts[entry.method, entry.variant]) > 1}


def choose_reference(shown: Sequence[Entry], metric: str, name: str | None) -> Entry:
    """The named entry; else the untrained one that is best on validation; else the best on validation."""
    named = [entry for entry in shown if name in (entry.name, entry.method, entry.label)]
    if named:
        return rank(named, metric, part="validation")[0]
    floors = [entry for entry in shown if not entry.trained]
    return rank(floors or shown, metric, part="validation")[0]


def rank(entries: Sequence[Entry], metric: str, part: str = "test") -> list[Entry]:
    """Best first; entries without the metric last."""

    def badness(entry: Entry) -> tuple[bool, float]:
        value = entry.value(metric, part)
        if value is None:
            return (True, 0.0)
        return (False, -value.mean if higher_is_better(metric) else value.mean)

    return sorted(entries, key=badness)
