"""SASRec by RecTools, run inside its own environment: ``python run_rectools.py WORKLOAD.json RESULT_FOLDER``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import torch
from rectools import Columns, __version__
from rectools.dataset import Dataset
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models import SASRecModel
from workload import EpochClock, Measurement, Sequences, Workload, finish, peak_memory, stopwatch


class Clock(EpochClock, lightning.Callback):
    """The common clock as a callback of this Lightning."""


def trainer(epochs: int) -> lightning.Trainer:
    """The library's own default trainer, with a clock."""
    return lightning.Trainer(
        max_epochs=epochs,
        min_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        accelerator="cpu",
        devices=1,
        callbacks=[Clock()],
    )


def main(workload: Workload, result: Path) -> None:
    """Train, evaluate, hand back."""
    measurement = Measurement(f"RecTools {__version__}", memory_after_import=peak_memory())
    torch.set_num_threads(1)
    lightning.seed_everything(workload.seed, verbose=False)
    sequences = Sequences.load(workload.sequences)
    with stopwatch() as whole:
        events = pd.DataFrame(
            {
                Columns.User: sequences.users,
                Columns.Item: sequences.items.astype(np.int64),
                Columns.Weight: 1.0,
                # The library orders events by time; places in the history are days here.
                Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(sequences.places, unit="D"),
            }
        )
        dataset = Dataset.construct(events)
        model = SASRecModel(
            n_factors=workload.dimension,
            n_blocks=workload.blocks,
            n_heads=workload.heads,
            dropout_rate=workload.dropout,
            session_max_len=workload.max_length,
            loss="softmax",
            lr=workload.learning_rate,
            batch_size=workload.batch_size,
            epochs=workload.epochs,
            get_trainer_func=trainer,
            get_trainer_func_kwargs={"epochs": workload.epochs},
            recommend_batch_size=workload.evaluation_batch_size,
            recommend_torch_device="cpu",
        )
        model.fit(dataset)
    assert model.fit_trainer is not None
    clock = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Clock))
    measurement.epoch_cpu_seconds = clock.seconds
    measurement.other_fit_cpu_seconds = whole.cpu_seconds - sum(clock.seconds)
    measurement.memory_after_training = peak_memory()

    users = np.arange(len(sequences.targets))
    truth = pd.DataFrame({Columns.User: users, Columns.Item: sequences.targets.astype(np.int64)})
    metrics = {
        f"ndcg@{workload.cutoff}": NDCG(workload.cutoff, divide_by_achievable=True),
        f"recall@{workload.cutoff}": Recall(workload.cutoff),
    }
    with stopwatch() as evaluation:
        lists = model.recommend(users, dataset, k=workload.cutoff, filter_viewed=True)
        measurement.own_metrics = {
            name: float(value) for name, value in calc_metrics(metrics, reco=lists, interactions=truth).items()
        }
    measurement.evaluation_cpu_seconds = evaluation.cpu_seconds
    measurement.memory_after_evaluation = peak_memory()

    places = np.full((len(users), workload.cutoff), -1, dtype=np.int64)
    places[lists[Columns.User], lists[Columns.Rank] - 1] = lists[Columns.Item]
    finish(result, measurement, places)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Workload.load(Path(sys.argv[1])), Path(sys.argv[2]))
