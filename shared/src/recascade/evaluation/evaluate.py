"""Measure a retriever on the held-out users of a split: full ranking, per-user values kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.errors import DataError, TrainingError
from recascade.evaluation import beyond_accuracy, groups
from recascade.evaluation.config import RESTRICTED_METRICS, RESTRICTIONS, EvaluationConfig
from recascade.evaluation.ranking_metrics import ranking_metric
from recascade.evaluation.requests import Targets, find_hits, requests, target_sets
from recascade.evaluation.shards import ALONE, Shard

Groups = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        per_user: one row per evaluated user: ``user_id``, ``history_length``, ``targets`` (distinct ones),
            ``activity``, ``popularity``, ``tied`` (null where the data have no times), then one column per metric and
            cutoff such as ``ndcg@10``, and ``recall@10/repeat``, ``recall@10/explore`` where some users repeat items:
            the value over those targets alone that the user had (not) had before, null where there are none.
        lists: int32 ``[E, k]``, item indices in the row order of ``per_user``; -1 where a list is shorter.
        summary: the mean of each metric over the users that have it, and ``coverage@10`` and its like.
        groups: grouping → group → means of the metrics and ``users``, the number of users in it.
    """

    per_user: pl.DataFrame
    lists: NDArray[np.int32]
    summary: dict[str, float]
    groups: Groups


def evaluate(
    retriever: Retriever,
    data: EncodedSplit,
    part: Literal["validation", "test"],
    config: EvaluationConfig,
    device: torch.device | str = "cpu",
    shard: Shard = ALONE,
) -> Evaluation:
    """Rank the catalogue for every user of the part and compare with what came next.

    Args:
        retriever: asked for ``config.length`` items per request.
        data: the encoded split.
        part: which held-out users; histories in ``test`` hold the validation events too.
        config: metrics, cutoffs, masking, candidates.
        device: where the retriever wants its requests.
        shard: this process's part of the work, where several processes evaluate together; each gets the whole result.

    Raises:
        DataError: the part has no users.
        TrainingError: a score of a list is not a number.
    """
    held_out = data.validation if part == "validation" else data.test
    rows = _measured_rows(len(held_out), config)
    if not len(rows):
        raise DataError(
            f"The {part} part of the split has no users to evaluate. Loosen its filters or choose another protocol."
        )
    items = len(data.items)
    lists = _recommend(retriever, data, held_out, rows, config, torch.device(device), shard)
    targets = target_sets(data.events, held_out, rows, items)
    metrics = _per_user_metrics(lists, targets, items, config)
    described = groups.describe(data, held_out, rows, targets)
    user_ids = data.users.decode(held_out.users[rows])
    per_user = pl.DataFrame({"user_id": user_ids, **described, **metrics}).with_columns(
        pl.col(list(metrics)).fill_nan(None)
    )
    summary = {name: _mean(values) for name, values in metrics.items()}
    summary |= beyond_accuracy.summarise(lists, data, config.cutoffs)
    return Evaluation(per_user, lists, summary, groups.means(per_user, list(metrics)))


def _measured_rows(users: int, config: EvaluationConfig) -> NDArray[np.int64]:
    if not 0 < config.max_users < users:
        return np.arange(users, dtype=np.int64)
    sample = np.random.default_rng(config.seed).choice(users, config.max_users, replace=False)
    return np.sort(sample).astype(np.int64)


def _recommend(
    retriever: Retriever,
    data: EncodedSplit,
    held_out: HeldOut,
    rows: NDArray[np.int64],
    config: EvaluationConfig,
    device: torch.device,
    shard: Shard,
) -> NDArray[np.int32]:
    candidates = _candidates(data, config)
    if candidates is not None:
        candidates = candidates.to(device)
    lists = np.zeros((len(rows), config.length), dtype=np.int32)
    # Histories of one length stand together, which spares sequence models their padding.
    lengths = held_out.history_ends[rows] - data.events.offsets[held_out.users[rows]]
    order = np.argsort(-lengths, kind="stable")
    for start in shard.starts(len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        context = requests(data.events, held_out, rows[batch]).to(device)
        found = retriever.retrieve(context, config.length, exclude_seen=config.exclude_seen, candidates=candidates)
        if bool(found.scores.isnan().any()):
            raise TrainingError(
                "The model's scores are not numbers (NaN), so there is nothing to rank. "
                "Train again with a smaller trainer.learning_rate or with trainer.gradient_clip=1."
            )
        lists[batch] = found.items.cpu().numpy()
    return shard.merge(lists)


def _candidates(data: EncodedSplit, config: EvaluationConfig) -> torch.Tensor | None:
    if not config.candidates:
        return None if data.rankable is None else torch.from_numpy(data.rankable)
    path = Path(config.candidates)
    if not path.is_file():
        raise DataError(f"evaluation.candidates names {config.candidates}, which is no file. Give one item per line.")
    identifiers = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    indices = np.asarray(data.items.encode(identifiers, unknown=-1), dtype=np.int64)
    indices = indices[indices >= 0]
    if not len(indices):
        raise DataError(
            f"None of the {len(identifiers)} items in {config.candidates} is in the catalogue of the split."
        )
    return torch.from_numpy(indices)


def _per_user_metrics(
    lists: NDArray[np.int32], targets: Targets, items: int, config: EvaluationConfig
) -> dict[str, NDArray[np.float64]]:
    hits = find_hits(lists, targets.rows, targets.items, items)
    values = {
        f"{name}@{k}": ranking_metric(name)(hits, targets.counts, k) for k in config.cutoffs for name in config.metrics
    }
    if not targets.repeated.any():
        return values
    for kind, chosen in zip(RESTRICTIONS, (targets.repeated, ~targets.repeated), strict=True):
        rows = targets.rows[chosen]
        hits = find_hits(lists, rows, targets.items[chosen], items)
        counts = np.bincount(rows, minlength=len(lists)).astype(np.int64)
        for k in config.cutoffs:
            for name in RESTRICTED_METRICS:
                values[f"{name}@{k}/{kind}"] = ranking_metric(name)(hits, counts, k)
    return values


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
