"""What to measure of re-ordered lists. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice

LIST_METRICS = ("ndcg", "found_map", "capped_map", "recall", "clicks", "hit_rate")


@dataclass
class ListEvaluationConfig:
    """Settings of ``evaluate_lists``; overridden on the command line as ``evaluation.cutoffs=[5,10]``.

    Attributes:
        cutoffs: how many of the first places the metrics look at.
        metrics: names of ``recascade.evaluation.list_metrics``.
        batch_size: lists per call of the re-ranker.
    """

    cutoffs: list[int] = field(default_factory=lambda: [1, 3, 5, 10])
    metrics: list[str] = field(default_factory=lambda: ["ndcg", "found_map", "capped_map", "recall", "clicks"])
    batch_size: int = 256

    def check(self) -> None:
        """Refuse values that measure nothing.

        Raises:
            ConfigurationError: naming the key, its value and what it may be.
        """
        for metric in self.metrics:
            check_choice("evaluation.metrics", metric, LIST_METRICS)
        check_at_least("evaluation.cutoffs", min(self.cutoffs, default=0), 1)
        check_at_least("evaluation.batch_size", self.batch_size, 1)
