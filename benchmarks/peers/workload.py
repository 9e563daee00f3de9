"""What each library is asked to do, and what it hands back: plain numbers in files, readable in every environment.

This file is imported in the environments of all libraries: the standard library, numpy and torch alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Workload:
    """SASRec with full softmax, trained and evaluated on one file of sequences.

    Attributes:
        name: of the data set.
        sequences: path of the ``.npz`` file that ``sequences.py`` wrote.
        epochs: passes over the training sequences, without validation in between.
        max_length: events that the model reads.
        dimension: width d; the feed-forward layer is as wide.
        blocks: transformer blocks.
        heads: attention heads.
        dropout: everywhere that SASRec drops.
        batch_size: sequences in a batch.
        learning_rate: of Adam, with betas 0.9 and 0.98 (the default of all three libraries).
        evaluation_batch_size: requests ranked at once.
        cutoff: length k of the lists.
        seed: of initial weights, order and dropout.
    """

    name: str
    sequences: str
    epochs: int
    max_length: int
    dimension: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.2
    batch_size: int = 128
    learning_rate: float = 1e-3
    evaluation_batch_size: int = 256
    cutoff: int = 10
    seed: int = 0

    def save(self, path: Path) -> None:
        """Write the workload for another process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Workload:
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Sequences:
    """U users: everything but the last event to train on, the last event to find.

    Attributes:
        offsets: int64 ``[U + 1]``; user u trains on ``items[offsets[u] : offsets[u + 1]]``, oldest first.
        items: int32 ``[N]``, 0…I-1; the items of the training events alone.
        targets: int32 ``[U]``, -1 for an item that no training event has (nobody can find it: a miss).
        item_count: I.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    item_count: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[U]``, training events per user."""
        return np.diff(self.offsets)

    @property
    def users(self) -> NDArray[np.int64]:
        """int64 ``[N]``, the user of each training event."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def places(self) -> NDArray[np.int64]:
        """int64 ``[N]``, place of each training event in its user's history, from 0."""
        return np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths)

    @classmethod
    def load(cls, path: str) -> Sequences:
        """Read the file that ``sequences.py`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["offsets"], arrays["items"], arrays["targets"], int(arrays["item_count"]))


@dataclass
class Measurement:
    """What a library reports of itself.

    Attributes:
        library: name and version.
        epoch_cpu_seconds: one value per epoch.
        other_fit_cpu_seconds: the rest, from the sequences in memory to the trained model: the library's own form of
            the data, building the model, starting the trainer, checkpoints where it writes any.
        evaluation_cpu_seconds: from the trained model to metric values: histories in, full ranking without seen items,
            NDCG@k and recall@k out, by the library's own means.
        memory_after_import: bytes; largest resident set when nothing but the library is loaded.
        memory_after_training: bytes; largest resident set up to the end of training.
        memory_after_evaluation: bytes; the same up to the end of the evaluation.
        own_metrics: what the library itself computed.
    """

    library: str
    epoch_cpu_seconds: list[float] = field(default_factory=list)
    other_fit_cpu_seconds: float = 0.0
    evaluation_cpu_seconds: float = 0.0
    memory_after_import: int = 0
    memory_after_training: int = 0
    memory_after_evaluation: int = 0
    own_metrics: dict[str, float] = field(default_factory=dict)


class EpochClock:
    """CPU time of each training epoch of a Lightning trainer, all threads of the process together.

    A mix-in for ``Callback``: the libraries import it from different packages (``lightning``, ``pytorch_lightning``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        """Take the time."""
        self._start = time.process_time()

    def on_train_epoch_end(self, *_: object) -> None:
        """Take the time again."""
        self.seconds.append(time.process_time() - self._start)


@dataclass
class Stopwatch:
    """CPU seconds of a block, once it has ended."""

    cpu_seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the CPU time of a block."""
    watch, start = Stopwatch(), time.process_time()
    yield watch
    watch.cpu_seconds = time.process_time() - start


def peak_memory() -> int:
    """Bytes; the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def finish(folder: Path, measurement: Measurement, lists: NDArray[np.int64]) -> None:
    """Hand back the measurement and the lists, int64 ``[U, k]``, -1 in places left empty."""
    np.save(folder / "lists.npy", lists, allow_pickle=False)
    (folder / "measurement.json").write_text(json.dumps(asdict(measurement), indent=1), encoding="utf-8")
