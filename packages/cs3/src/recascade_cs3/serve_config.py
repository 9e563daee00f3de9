"""How a service of CS3 answers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least, check_choice

INDEXES = ("auto", "flat", "faiss", "usearch")


@dataclass
class ServeConfig:
    """Settings of ``recascade serve cs3``.

    Attributes:
        index: structure of the item index: ``flat`` (exact), ``faiss``, ``usearch``, or ``auto``, which is ``faiss``
            where it is installed.
        recall: share of the exactly best 100 items that a search should find; 0.985.
        threads: answers computed at a time; 4.
        refresh_seconds: how often to look for a newer checkpoint of the run; 30; 0 for never.
        encode_users: run the user tower for all users when a checkpoint is loaded, so that a request only looks a
            vector up; otherwise each request runs it, as it does anyway where the tower reads histories, or cascade
            vectors from Redis.
        store: address of the Redis server with the cascade vectors, as ``redis://localhost:6379/0``; empty to keep
            those of the run's checkpoint in this process.
        store_name: prefix of the store's keys.
        ranker_version: of the ranker that writes the store; vectors of other versions read as zeros.
        fill_store: write the cascade vectors of each checkpoint into Redis before serving it.
        timeout: seconds to wait for Redis; 0.02.
        retry_seconds: how long Redis is left alone after a failure; 1.
        remembered: users whose latest vectors serve during an outage of Redis; 0 serves zeros.
    """

    index: str = "auto"
    recall: float = 0.985
    threads: int = 4
    refresh_seconds: float = 30.0
    encode_users: bool = True
    store: str = ""
    store_name: str = "recascade-cs3"
    ranker_version: str = "1"
    fill_store: bool = False
    timeout: float = 0.02
    retry_seconds: float = 1.0
    remembered: int = 0

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("serve.index", self.index, INDEXES)
        check_at_least("serve.threads", self.threads, 1)
        for name in ("recall", "refresh_seconds", "timeout", "retry_seconds", "remembered"):
            check_at_least(f"serve.{name}", getattr(self, name), 0)
