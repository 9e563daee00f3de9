"""What is watched while a model is reinforced, and how much is too much. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least
from recascade.errors import ConfigurationError


@dataclass
class GuardConfig:
    """Watching over the model's health while it is reinforced (our choice throughout).

    Attributes:
        every: steps between measurements; 50; 0 for none.
        users: validation users that are measured; 512.
        cutoff: k of the hit rate; 50.
        least_share: hit rate, as a share of the supervised model's, below which the model counts as unwell; 0.9.
        least_valid: share of answers that are ids of items; 0.9.
        least_entropy: nats, mean per code; 0, no bound.
        most_divergence: nats per answer from the supervised model; 5.
        least_unique: share of a group's answers that are distinct; 0, no bound.
        stop: end the training at the first bad measurement and go back to the last good weights.
    """

    every: int = 50
    users: int = 512
    cutoff: int = 50
    least_share: float = 0.9
    least_valid: float = 0.9
    least_entropy: float = 0.0
    most_divergence: float = 5.0
    least_unique: float = 0.0
    stop: bool = False

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("model.guard.every", self.every, 0)
        for name in ("users", "cutoff"):
            check_at_least(f"model.guard.{name}", getattr(self, name), 1)
        for name in ("least_share", "least_valid", "least_entropy", "most_divergence", "least_unique"):
            check_at_least(f"model.guard.{name}", getattr(self, name), 0)
        if self.stop and not self.every:
            raise ConfigurationError("model.guard.stop needs measurements, but model.guard.every is 0.")
