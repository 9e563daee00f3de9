"""How a service of PSAD answers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.contracts.checks import check_at_least, check_choice


@dataclass
class ServeConfig:
    """Settings of ``recascade serve psad``.

    Attributes:
        engine: ``onnx`` (ONNX Runtime, from an exported folder), ``torch``, or ``auto``, the first where it is there.
        batch: most requests that are scored together; 64.
        wait_milliseconds: how long a request waits for others to be scored with; 0 takes those that are there already.
        threads: requests under way at a time; 64.
    """

    engine: str = "auto"
    batch: int = 64
    wait_milliseconds: float = 0.0
    threads: int = 64

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("serve.engine", self.engine, ("auto", "onnx", "torch"))
        for name in ("batch", "threads"):
            check_at_least(f"serve.{name}", getattr(self, name), 1)
        check_at_least("serve.wait_milliseconds", self.wait_milliseconds, 0)
