"""What to measure and how. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError, did_you_mean

RANKING_METRICS = (
    "hit_rate",
    "recall",
    "capped_recall",
    "precision",
    "ndcg",
    "full_list_ndcg",
    "mrr",
    "map",
    "capped_map",
)

RESTRICTED_METRICS = ("recall", "ndcg")
"""They say what the others say, restricted to repeated or to new targets."""

RESTRICTIONS = ("repeat", "explore")
"""Targets that a user had before, and those that are new to the user; ``recall@10/repeat``."""


@dataclass
class EvaluationConfig:
    """Settings of ``evaluate``; overridden on the command line as ``evaluation.exclude_seen=true``.

    Attributes:
        cutoffs: list lengths k at which metrics are taken.
        metrics: names of ``recascade.evaluation.ranking_metrics``.
        list_length: items kept per user in ``lists``; 0 keeps as many as the largest cutoff.
        exclude_seen: leave the items of a user's own history out of the list. A target that the user had before then
            counts as missed, so switch it off where purchases repeat.
        candidates: path of a text file with one item identifier per line; only these are ranked. Empty ranks the whole
            catalogue.
        batch_size: requests per call of the retriever.
        max_users: measure on a seeded sample of at most this many users; 0 measures all.
        seed: seed of that sample.
    """

    cutoffs: list[int] = field(default_factory=lambda: [5, 10, 20])
    metrics: list[str] = field(default_factory=lambda: ["hit_rate", "recall", "precision", "ndcg", "mrr", "map"])
    list_length: int = 0
    exclude_seen: bool = False
    candidates: str = field(default="", metadata=names_a_file())
    batch_size: int = 256
    max_users: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric not in RANKING_METRICS:
                raise ConfigurationError(
                    f"evaluation.metrics holds {metric!r}, which is no metric.{did_you_mean(metric, RANKING_METRICS)}"
                )
        if not self.cutoffs or min(self.cutoffs) < 1:
            raise ConfigurationError(
                f"evaluation.cutoffs must hold list lengths of at least 1, but it is {list(self.cutoffs)}."
            )
        if self.batch_size < 1:
            raise ConfigurationError(f"evaluation.batch_size must be at least 1, but it is {self.batch_size}.")
        if 0 < self.list_length < max(self.cutoffs):
            raise ConfigurationError(
                f"evaluation.list_length is {self.list_length}, shorter than the largest cutoff {max(self.cutoffs)}; "
                "raise it, or set it to 0."
            )

    @property
    def length(self) -> int:
        """Items asked of the retriever per request."""
        return self.list_length or max(self.cutoffs)
