"""What runs are measured on, as their results record it: the data set, and the split or the lists made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recascade.data.dataset import Dataset
from recascade.data.split_manifest import SplitManifest


@dataclass(frozen=True)
class Ground:
    """One thing to measure on. Only results on the same ground may share a table.

    Attributes:
        data: name, fingerprint, ``synthetic`` and terms of the data set.
        split: the record under ``split`` in a result; its ``fingerprint`` names the folder of the runs.
    """

    data: Mapping[str, Any]
    split: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the data set."""
        return str(self.data["name"])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over what is asked and what may be learned from."""
        return str(self.split["fingerprint"])


def ground_of_split(manifest: SplitManifest) -> Ground:
    """The ground of retrieval and ranking."""
    data = {
        "name": manifest.dataset,
        "fingerprint": manifest.dataset_fingerprint,
        "synthetic": manifest.synthetic,
        "terms": manifest.terms,
    }
    split = {
        "fingerprint": manifest.fingerprint,
        "protocol": manifest.config.protocol,
        "ties": manifest.config.ties,
        "cold_items": manifest.config.cold_items,
        "catalogue": manifest.config.catalogue,
        "filters": manifest.filters,
        "counts": manifest.counts,
        "tied_target_share": manifest.tied_target_share,
    }
    return Ground(data, split)


def data_record(dataset: Dataset) -> dict[str, Any]:
    """What a result says of a data set that is not split by events."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "synthetic": dataset.synthetic,
        "terms": dataset.terms,
    }
