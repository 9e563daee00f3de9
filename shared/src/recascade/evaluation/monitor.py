"""What ``trainer.monitor`` says: a metric and how long a list it reads."""

from __future__ import annotations

from recascade.errors import ConfigurationError


def split_monitor(monitor: str) -> tuple[str, int]:
    """``"ndcg@10"`` to ``("ndcg", 10)``; whether there is such a metric is for those to say who have them.

    Raises:
        ConfigurationError: no cutoff.
    """
    name, _, cutoff = monitor.partition("@")
    if not cutoff.isdigit() or int(cutoff) < 1:
        raise ConfigurationError(
            f"trainer.monitor is {monitor!r}; it must be a metric and a list length, as 'ndcg@10'."
        )
    return name, int(cutoff)
