"""Compare runs that lie anywhere, on the users they share: differences, intervals, corrected tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recascade.bench.report.board import per_user_metrics, rank
from recascade.bench.report.comparison import Difference, check_same_users, compare, user_means
from recascade.bench.report.entry import Entry, gather
from recascade.bench.report.record import RunRecord, records
from recascade.bench.report.rules import Rules, rules_of
from recascade.bench.store import find_runs
from recascade.errors import ConfigurationError, DataError, did_you_mean

USUAL_METRICS = ("ndcg@10", "recall@10", "hit_rate@10", "mrr@10")


@dataclass(frozen=True)
class Comparison:
    """Configurations against one of them.

    Attributes:
        rules: what all of them were measured under.
        metrics: names, in the order asked for.
        reference: what the others are compared with.
        others: best first on the first metric.
        differences: for each of ``others``, metric → difference (configuration - reference). Holm's correction is over
            ``others``, metric by metric.
    """

    rules: Rules
    metrics: tuple[str, ...]
    reference: Entry
    others: tuple[Entry, ...]
    differences: tuple[dict[str, Difference], ...]


def compare_runs(folders: Sequence[Path], metrics: Sequence[str] = ()) -> Comparison:
    """Compare all finished runs in or below the folders.

    The seeds of a configuration are averaged per user first; then users are paired.

    Args:
        folders: run directories, or folders of them; the first finished configuration in the first one is the
            reference.
        metrics: names of per-user metrics, slices such as ``recall@10/explore`` too; none for the usual ones.

    Raises:
        DataError: a folder holds no finished run, there is one configuration only, or the runs were measured on
            different splits, by different rules or on different users.
        ConfigurationError: a metric that not every run has.
    """
    of_first = _finished([folders[0]])
    # The first folder comes last: where folders overlap, the reference keeps the spelling it is looked for by.
    runs = {run.directory.resolve(): run for run in [*_finished(folders), *of_first]}
    rules = _shared_rules(list(runs.values()))
    entries = gather(runs.values())
    if len(entries) < 2:
        raise DataError(
            f"These runs are all of one configuration, {entries[0].label}; give a second one to compare it with."
        )
    chosen = _known_metrics(list(runs.values()), metrics)
    reference = next(entry for entry in entries if of_first[0].directory in {run.directory for run in entry.runs})
    others = rank([entry for entry in entries if entry is not reference], chosen[0])
    base = user_means(reference.runs, chosen)
    means = [user_means(entry.runs, chosen) for entry in others]
    for other in means:
        check_same_users(base, other)
    return Comparison(rules, chosen, reference, tuple(others), tuple(compare(means, base)))


def _finished(folders: Sequence[Path]) -> list[RunRecord]:
    finished: list[RunRecord] = []
    for folder in folders:
        done, _, _ = records(find_runs(folder))
        if not done:
            raise DataError(f"No run in {folder} is finished; run the same command again to finish it.")
        finished += done
    return finished


def _shared_rules(runs: Sequence[RunRecord]) -> Rules:
    """The rules of all runs.

    Raises:
        DataError: they differ; the sentence says in what.
    """
    first = runs[0]
    rules = rules_of(first)
    for run in runs[1:]:
        other = rules_of(run)
        if other != rules:
            differing = [name for name in Rules.__dataclass_fields__ if getattr(rules, name) != getattr(other, name)]
            detail = ", ".join(
                f"{name.replace('_', ' ')}: {getattr(rules, name)} and {getattr(other, name)}" for name in differing
            )
            raise DataError(
                f"{first.directory} and {run.directory} were not measured alike ({detail}), and their numbers must not "
                "stand in one table; compare runs of one split."
            )
    return rules


def _known_metrics(runs: Sequence[RunRecord], wanted: Sequence[str]) -> tuple[str, ...]:
    common = set.intersection(*(set(run.metric_columns) for run in runs))
    for metric in wanted:
        if metric not in common:
            raise ConfigurationError(f"Not every run has the metric {metric!r}.{did_you_mean(metric, common)}")
    usual = tuple(metric for metric in USUAL_METRICS if metric in common)
    return tuple(wanted) or usual or (per_user_metrics(runs)[0],)
