"""SASRec by RePlay, run inside its own environment: ``python run_replay.py WORKLOAD.json RESULT_FOLDER [--trimmed]``.

``--trimmed`` switches on what the library offers against padding, beside its default recipe: batches trimmed to their
longest sequence and, inside the encoder, rows of similar length computed together.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import ComputeMetricsCallback, TorchTopItemsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import SasRec
from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
from replay.nn.transform import AdaptiveTrimTransform, TargetAwareAdaptiveTrimTransform
from replay.nn.transform.template import make_default_sasrec_transforms
from workload import EpochClock, Measurement, Sequences, Workload, finish, peak_memory, stopwatch

BUCKET_ROWS = 32


class Clock(EpochClock, lightning.Callback):
    """The common clock as a callback of this Lightning."""


def write_table(sequences: Sequences, path: Path) -> None:
    """The input that the library documents: one row per user, encoded sequences as lists."""
    histories = pa.ListArray.from_arrays(pa.array(sequences.offsets, pa.int32()), pa.array(sequences.items, pa.int64()))
    table = {
        "user_id": pa.array(np.arange(len(sequences.targets))),
        "item_id": histories,
        "seen_ids": histories,
        "ground_truth": pa.array(sequences.targets.astype(np.int64)[:, None].tolist(), pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(table), path)


def batches(workload: Workload, sequences: Sequences, schema: TensorSchema, path: Path, trimmed: bool) -> ParquetModule:
    """The library's data module with its default transforms for SASRec."""
    padding = sequences.item_count
    history = {"item_id": {"shape": workload.max_length, "padding": padding}}
    training = {"item_id": {"shape": workload.max_length + 1, "padding": padding}}
    evaluation = history | {
        "user_id": {},
        "seen_ids": {"shape": int(sequences.lengths.max()), "padding": padding},
        "ground_truth": {"shape": 1, "padding": -2},
    }
    transforms = make_default_sasrec_transforms(schema)
    if trimmed:
        transforms["train"].insert(2, TargetAwareAdaptiveTrimTransform(["item_id", "positive_labels"]))
        for stage in ("validate", "predict"):
            transforms[stage].insert(1, AdaptiveTrimTransform("item_id"))
    return ParquetModule(
        batch_size={
            "train": workload.batch_size,
            "validate": workload.evaluation_batch_size,
            "predict": workload.evaluation_batch_size,
        },
        metadata={"train": training, "validate": evaluation, "predict": evaluation},
        transforms=transforms,
        train_path=str(path),
        validate_path=str(path),
        predict_path=str(path),
    )


def main(workload: Workload, result: Path, trimmed: bool) -> None:
    """Train, evaluate, hand back."""
    name = f"RePlay {version('replay-rec')}" + (" trimmed" if trimmed else "")
    measurement = Measurement(name, memory_after_import=peak_memory())
    torch.set_num_threads(1)
    lightning.seed_everything(workload.seed, verbose=False)
    sequences = Sequences.load(workload.sequences)
    table = result / "sequences.parquet"
    clock = Clock()
    quiet_trainer = partial(
        lightning.Trainer,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with stopwatch() as whole:
        write_table(sequences, table)
        schema = TensorSchema(
            [
                TensorFeatureInfo(
                    "item_id",
                    is_seq=True,
                    feature_type=FeatureType.CATEGORICAL,
                    feature_hint=FeatureHint.ITEM_ID,
                    cardinality=sequences.item_count,
                    padding_value=sequences.item_count,
                    embedding_dim=workload.dimension,
                )
            ]
        )
        data = batches(workload, sequences, schema, table, trimmed)
        model = SasRec.from_params(
            schema,
            embedding_dim=workload.dimension,
            num_heads=workload.heads,
            num_blocks=workload.blocks,
            max_sequence_length=workload.max_length,
            dropout=workload.dropout,
        )
        if trimmed:
            model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, BUCKET_ROWS)
        module = LightningModule(model, OptimizerFactory(learning_rate=workload.learning_rate))
        quiet_trainer(max_epochs=workload.epochs, limit_val_batches=0, callbacks=[clock]).fit(module, data)
    measurement.epoch_cpu_seconds = clock.seconds
    measurement.other_fit_cpu_seconds = whole.cpu_seconds - sum(clock.seconds)
    measurement.memory_after_training = peak_memory()

    unseen = [SeenItemsFilter(sequences.item_count)]
    with stopwatch() as evaluation:
        scores = ComputeMetricsCallback(["ndcg", "recall"], [workload.cutoff], postprocessors=unseen, verbose=False)
        values = quiet_trainer(callbacks=[scores]).validate(module, data, verbose=False)[0]
    measurement.evaluation_cpu_seconds = evaluation.cpu_seconds
    measurement.own_metrics = {key: float(value) for key, value in values.items()}
    measurement.memory_after_evaluation = peak_memory()

    best = TorchTopItemsCallback(workload.cutoff, query_column="user_id", postprocessors=unseen)
    quiet_trainer(callbacks=[best]).predict(module, data, return_predictions=False)
    users, items, _ = best.get_result()
    lists = np.full((len(sequences.targets), workload.cutoff), -1, dtype=np.int64)
    lists[users.flatten().numpy()] = items.numpy()
    finish(result, measurement, lists)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Workload.load(Path(sys.argv[1])), Path(sys.argv[2]), "--trimmed" in sys.argv[3:])
