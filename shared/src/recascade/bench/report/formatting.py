"""How numbers and names are written in every output of the report."""

from __future__ import annotations

import math

MISSING = "–"
MINUS = "−"
THIN_SPACE = "\u202f"

METRIC_FAMILIES = {
    "ndcg": "NDCG",
    "hit_rate": "Hit rate",
    "recall": "Recall",
    "capped_recall": "Capped recall",
    "precision": "Precision",
    "mrr": "MRR",
    "map": "MAP",
    "capped_map": "Capped MAP",
    "found_map": "MAP of the clicks found",
    "clicks": "Clicks",
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
    "coverage": "Coverage",
    "gini": "Gini index",
    "novelty": "Novelty",
    "intra_list_diversity": "Intra-list diversity",
    "ild": "Intra-list diversity",
}
LOWER_IS_BETTER = frozenset({"log_loss", "gini"})


def metric_family(name: str) -> str:
    """The metric without its cutoff and slice: ``ndcg`` of ``ndcg@10/repeat``."""
    return name.partition("/")[0].partition("@")[0]


def metric_cutoff(name: str) -> int | None:
    """The list length a metric looks at: 10 of ``ndcg@10``; None for metrics without one."""
    cutoff = name.partition("/")[0].partition("@")[2]
    return int(cutoff) if cutoff.isdigit() else None


def metric_label(name: str) -> str:
    """The metric as printed.

    >>> metric_label("hit_rate@10/repeat")
    'Hit rate@10, repeat'
    """
    metric, _, of_slice = name.partition("/")
    family, at, cutoff = metric.partition("@")
    words = METRIC_FAMILIES.get(family, family.replace("_", " ").capitalize())
    return f"{words}{at}{cutoff}" + (f", {of_slice}" if of_slice else "")


def metric_order(name: str) -> tuple[int, str, int]:
    """Sort key: families in the order of ``METRIC_FAMILIES``, then cutoffs ascending."""
    family = metric_family(name)
    known = list(METRIC_FAMILIES)
    return (known.index(family) if family in known else len(known), family, metric_cutoff(name) or 0)


def higher_is_better(name: str) -> bool:
    """Whether a larger value of this metric is the better one."""
    return metric_family(name) not in LOWER_IS_BETTER


def is_missing(value: float | None) -> bool:
    """True for None and for values that are not a number."""
    return value is None or not math.isfinite(value)


def number(value: float | None, digits: int = 4) -> str:
    """A plain decimal number with a true minus sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) != 0.0 else text.removeprefix("-")


def signed(value: float | None, digits: int = 4) -> str:
    """A difference: always with its sign, except zero."""
    text = number(value, digits)
    return text if value is None or text == MISSING or text.startswith(MINUS) or float(text) == 0.0 else f"+{text}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one as per cent."""
    return MISSING if is_missing(share) else f"{number(100.0 * (share or 0.0), digits)}{THIN_SPACE}%"


def signed_percent(share: float | None, digits: int = 1) -> str:
    """A relative difference as per cent, with its sign."""
    return MISSING if is_missing(share) else f"{signed(100.0 * (share or 0.0), digits)}{THIN_SPACE}%"


def grouped(value: float | None) -> str:
    """A whole number with thin spaces between thousands.

    >>> grouped(12101).replace(THIN_SPACE, " ")
    '12 101'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{round(value):,}".replace(",", THIN_SPACE).replace("-", MINUS)


def significant(value: float | None) -> str:
    """A cost with three significant figures, below 1 with two, never in exponent notation; grouped from 100 on.

    >>> [significant(value) for value in (0.0301, 1.5, 12.34, 545.2)]
    ['0.030', '1.50', '12.3', '545']
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0.0:
        return "0"
    figures = 2 if abs(value) < 1.0 else 3
    decimals = figures - 1 - math.floor(math.log10(abs(value)))
    return grouped(value) if decimals <= 0 else number(value, decimals)


def probability(value: float | None) -> str:
    """A p-value: three decimals, with a floor that does not pretend to more."""
    if value is None or not math.isfinite(value):
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
