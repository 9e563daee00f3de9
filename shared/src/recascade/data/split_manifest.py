"""What a split says about itself: the record that stands on every table made from it. Importable without Polars."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recascade.data.split_config import SplitConfig
from recascade.errors import DataError
from recascade.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class SplitManifest:
    """The content of ``split.json``.

    Attributes:
        dataset: name of the data set.
        dataset_fingerprint: SHA-256 of its files.
        synthetic: whether the data were generated.
        terms: terms of use of the data, as far as known.
        config: what the split was made by.
        times: the moments of a temporal split in seconds (``validation_time``, ``test_time``); empty for the others.
        counts: events, users and items read, dropped by each step, kept, and in each part.
        tied_target_share: share of the test targets whose timestamp equals that of the event before them in the
            history: what a tie rule can decide.
        fingerprint: 16 hexadecimal digits over the rules, the targets and the training events. Only results with equal
            fingerprints may share a table.
    """

    dataset: str
    dataset_fingerprint: str
    synthetic: bool
    terms: str
    config: SplitConfig
    times: dict[str, int]
    counts: dict[str, int]
    tied_target_share: float
    fingerprint: str

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that were on, by key of the configuration."""
        return self.config.filters

    def save(self, path: Path) -> None:
        """Write ``split.json`` atomically."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> SplitManifest:
        """Read ``split.json``.

        Raises:
            DataError: it is absent, cut off, or of another format.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DataError(f"{path} was written in another format; make the split again with 'recascade data split'.")
        try:
            return cls(**{**content, "config": SplitConfig(**content["config"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} lacks a field or has one too many ({error}); make the split again.") from error
