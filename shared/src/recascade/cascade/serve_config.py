"""How a cascade answers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least


@dataclass
class ServeConfig:
    """Settings of ``recascade serve cascade``. The deadlines add up to less than the 100 ms of a whole request.

    Attributes:
        retriever_deadline: milliseconds after which popular items stand in for the retriever's; 40.
        ranker_deadline: milliseconds after which the retriever's order is kept; 30.
        reranker_deadline: milliseconds after which the ranker's order is kept; 20.
        workers: calls of each stage computed at a time; 2.
        waiting: further calls of each stage that may wait for a worker; one more is not begun at all. 16.
        threads: requests answered at a time; 8.
        exclude_seen: leave the items of a user's own history out; null does as the cascade was trained for
            (``evaluation.exclude_seen``).
        most_events: latest events per user that came in while serving and are kept; 1000.
        most_users: users whose new events are kept, those with the latest events; 100000.
    """

    retriever_deadline: float = 40.0
    ranker_deadline: float = 30.0
    reranker_deadline: float = 20.0
    workers: int = 2
    waiting: int = 16
    threads: int = 8
    exclude_seen: bool | None = None
    most_events: int = 1000
    most_users: int = 100_000

    def check(self) -> None:
        """Refuse values that cannot work."""
        for name in ("retriever_deadline", "ranker_deadline", "reranker_deadline", "waiting"):
            check_at_least(f"serve.{name}", getattr(self, name), 0)
        for name in ("workers", "threads", "most_events", "most_users"):
            check_at_least(f"serve.{name}", getattr(self, name), 1)
