"""SASRec by recascade, in a process of its own: ``python run_recascade.py WORKLOAD.json RESULT_FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from workload import EpochClock, Measurement, Sequences, Workload, finish, peak_memory, stopwatch

from recascade import __version__
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences
from recascade.data.next_item import NextItemData
from recascade.data.split_config import SplitConfig
from recascade.data.split_manifest import SplitManifest
from recascade.data.vocabulary import Vocabulary
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.next_item import InnerProductRetriever
from recascade.models.sasrec import SASRec
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.fit import fit
from recascade.training.next_item import NextItemModule


class TimedModule(NextItemModule):
    """The library's module, with the common clock."""

    def on_train_epoch_start(self) -> None:
        """Take the time."""
        self.clock.on_train_epoch_start()

    def on_train_epoch_end(self) -> None:
        """Take the time again."""
        self.clock.on_train_epoch_end()

    @property
    def clock(self) -> EpochClock:
        """Made at the first look."""
        clock: EpochClock = self.__dict__.setdefault("_clock", EpochClock())
        return clock


def encoded_split(workload: Workload, sequences: Sequences) -> EncodedSplit:
    """The sequences in the library's form: no validation users, the last event of each user to find."""
    users = len(sequences.targets)
    nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    return EncodedSplit(
        manifest=SplitManifest(
            dataset=workload.name,
            dataset_fingerprint="",
            synthetic=False,
            terms="",
            config=SplitConfig(ties="file"),
            times={},
            counts={},
            tied_target_share=float("nan"),
            fingerprint="",
        ),
        items=Vocabulary([str(item) for item in range(sequences.item_count)], kind="item"),
        users=Vocabulary([str(user) for user in range(users)], kind="user"),
        events=EventSequences(
            offsets=sequences.offsets,
            items=sequences.items,
            timestamps=np.zeros(len(sequences.items), dtype=np.int64),
            groups=sequences.places.astype(np.int32),
        ),
        train_ends=sequences.offsets[1:],
        validation=HeldOut(nobody, nobody, np.zeros(1, dtype=np.int64), nothing, nobody),
        test=HeldOut(
            users=np.arange(users),
            history_ends=sequences.offsets[1:],
            target_offsets=np.arange(users + 1),
            target_items=sequences.targets,
            target_timestamps=np.zeros(users, dtype=np.int64),
        ),
    )


def main(workload: Workload, result: Path) -> None:
    """Train, evaluate, hand back."""
    measurement = Measurement(f"recascade {__version__}", memory_after_import=peak_memory())
    torch.set_num_threads(1)
    torch.manual_seed(workload.seed)
    sequences = Sequences.load(workload.sequences)
    with stopwatch() as whole:
        data = encoded_split(workload, sequences)
        model = SASRec(
            items=sequences.item_count,
            dimension=workload.dimension,
            blocks=workload.blocks,
            heads=workload.heads,
            max_length=workload.max_length,
            dropout=workload.dropout,
        )
        trainer = TrainerConfig(
            max_epochs=workload.epochs,
            learning_rate=workload.learning_rate,
            batch_sequences=workload.batch_size,
            patience=0,
            validate_every=0,
            tensorboard=False,
            accelerator="cpu",
            progress=False,
        )
        module = TimedModule(model, data, LossConfig("full_softmax"), trainer)
        batches = NextItemData(data, trainer, max_length=workload.max_length, seed=workload.seed)
        fit(module, batches, trainer, result / "run", seed=workload.seed)
    measurement.epoch_cpu_seconds = module.clock.seconds
    measurement.other_fit_cpu_seconds = whole.cpu_seconds - sum(module.clock.seconds)
    measurement.memory_after_training = peak_memory()

    with stopwatch() as evaluation:
        retriever = InnerProductRetriever(model, torch.from_numpy(data.item_counts).float())
        config = EvaluationConfig(
            cutoffs=[workload.cutoff],
            metrics=["ndcg", "recall"],
            exclude_seen=True,
            batch_size=workload.evaluation_batch_size,
        )
        evaluated = evaluate(retriever, data, "test", config)
    measurement.evaluation_cpu_seconds = evaluation.cpu_seconds
    measurement.memory_after_evaluation = peak_memory()
    measurement.own_metrics = {
        key: evaluated.summary[key] for key in (f"ndcg@{workload.cutoff}", f"recall@{workload.cutoff}")
    }
    finish(result, measurement, evaluated.lists.astype(np.int64))


if __name__ == "__main__":
    main(Workload.load(Path(sys.argv[1])), Path(sys.argv[2]))
