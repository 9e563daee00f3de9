"""How a service of RelayGR answers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least, check_choice

ENGINES = ("embedded", "ray")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass
class ServeConfig:
    """Settings of ``recascade serve relaygr``, beside those of the relay (``relay.KEY=VALUE``).

    Attributes:
        engine: ``embedded``, in one process, or ``ray``, on a Ray cluster (needs the extra ``ray``).
        instances: of the ranking stage; 1.
        device: where the ranker computes: ``cpu``, ``cuda``.
        precision: of the stored states.
        tolerance: the largest error of a score that the safety check allows; 0 for that of ``precision``.
        threads: requests read and answered at a time; 8.
        candidates: the most of one request; 2,000.
        remembered: tickets kept for ranking requests to come; 100,000.
    """

    engine: str = "embedded"
    instances: int = 1
    device: str = "cpu"
    precision: str = "float32"
    tolerance: float = 0.0
    threads: int = 8
    candidates: int = 2000
    remembered: int = 100_000

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("serve.engine", self.engine, ENGINES)
        check_choice("serve.precision", self.precision, PRECISIONS)
        for name in ("instances", "threads", "candidates", "remembered"):
            check_at_least(f"serve.{name}", getattr(self, name), 1)
        check_at_least("serve.tolerance", self.tolerance, 0)
