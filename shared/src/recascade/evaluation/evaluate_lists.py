"""Measure a re-ranker on the lists of a part: one row per list kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.contracts.reranker import ListScorer, Reranker
from recascade.data.reranking_lists import Part, RerankingLists
from recascade.errors import DataError, TrainingError
from recascade.evaluation.click_metrics import auc, gauc
from recascade.evaluation.groups import ACTIVITIES, thirds
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.evaluation.list_metrics import intra_list_diversity, list_metric, ordered_labels
from recascade.evaluation.shards import ALONE, Shard
from recascade.nn.list_similarity import candidate_similarity


@dataclass(frozen=True)
class ListEvaluation:
    """What was measured.

    Attributes:
        per_list: one row per list: ``list_id``, ``history_length``, ``targets`` (its positive candidates),
            ``candidates``, ``activity`` (thirds of the lists by history length), then one column per metric and cutoff
            such as ``ndcg@10``, and ``ild@10``; null where a list has no value.
        orders: int64 ``[Q, n]``, the re-ranker's orders in the rows of ``per_list``; -1 behind a list's last candidate.
        summary: the mean of each over the lists that have it; for a re-ranker with scores also ``auc`` over all
            candidates and ``gauc`` within lists.
        groups: grouping → group → means, and ``users``, the number of lists in it.
    """

    per_list: pl.DataFrame
    orders: NDArray[np.int64]
    summary: dict[str, float]
    groups: dict[str, dict[str, dict[str, float]]]


def evaluate_lists(
    reranker: Reranker,
    lists: RerankingLists,
    part: Part,
    config: ListEvaluationConfig,
    device: torch.device | str = "cpu",
    shard: Shard = ALONE,
) -> ListEvaluation:
    """Have every list of the part re-ordered, whole, and compare with what the user did.

    Args:
        reranker: asked for as many places as the longest list has candidates; the labels it gets are 0.
        lists: all lists.
        part: which of them.
        config: metrics and cutoffs.
        device: where the re-ranker wants its batches.
        shard: this process's part of the work, where several processes evaluate together; each gets the whole result.

    Raises:
        DataError: the part has no lists.
        TrainingError: the re-ranker left a candidate out, placed one twice or gave a score that is not a number.
    """
    config.check()
    rows = lists.rows(part)
    if not len(rows):
        raise DataError(f"There are no {part} lists to evaluate.")
    width = int(lists.lengths[rows].max())
    orders = np.zeros((len(rows), width), dtype=np.int64)
    labels = np.zeros((len(rows), width), dtype=np.float32)
    diversity = {k: np.zeros(len(rows)) for k in config.cutoffs}
    scores = np.zeros((len(rows), width)) if isinstance(reranker, ListScorer) else None
    for start in shard.starts(len(rows), config.batch_size):
        chosen = slice(start, min(start + config.batch_size, len(rows)))
        batch = lists.batch(rows[chosen])
        places = batch.labels.shape[1]
        labels[chosen, :places] = batch.labels.numpy()
        blind = batch.without_labels().to(device)
        orders[chosen] = reranker.rerank(blind, width).cpu().numpy()
        _check_orders(orders[chosen], batch.lengths.numpy(), lists.ids.gather(pl.Series(rows[chosen])))
        similarity = candidate_similarity(
            batch.candidate_fields, batch.candidate_features, batch.candidate_mask
        ).numpy()
        for k in config.cutoffs:
            diversity[k][chosen] = intra_list_diversity(similarity, orders[chosen], k)
        if isinstance(reranker, ListScorer) and scores is not None:
            scores[chosen] = -np.inf
            scores[chosen, :places] = _checked_scores(reranker.scores(blind).cpu().numpy())
    orders, labels = shard.merge(orders), shard.merge(labels)
    diversity = {k: shard.merge(values) for k, values in diversity.items()}
    ordered = ordered_labels(labels, orders)
    metrics = {f"{name}@{k}": list_metric(name)(ordered, labels, k) for name in config.metrics for k in config.cutoffs}
    metrics |= {f"ild@{k}": diversity[k] for k in config.cutoffs if k > 1}
    per_list = pl.DataFrame(
        {
            "list_id": lists.ids.gather(pl.Series(rows)),
            "history_length": lists.history_lengths[rows],
            "targets": (labels > 0).sum(axis=1),
            "candidates": lists.lengths[rows],
            "activity": np.array(ACTIVITIES)[thirds(lists.history_lengths[rows])],
            **metrics,
        }
    ).with_columns(pl.col(list(metrics)).fill_nan(None))
    summary = {name: _mean(per_list[name]) for name in metrics}
    if scores is not None:
        summary |= _scorer_metrics(shard.merge(scores), labels)
    return ListEvaluation(per_list, orders, summary, group_means(per_list, list(metrics)))


def _check_orders(orders: NDArray[np.int64], lengths: NDArray[np.int64], ids: pl.Series) -> None:
    """Refuse an order that is none: the metrics would count a candidate twice, or reward one that is not there."""
    expected = np.where(np.arange(orders.shape[1]) < lengths[:, None], np.arange(orders.shape[1]), -1)
    wrong = (np.sort(orders, axis=1) != np.sort(expected, axis=1)).any(axis=1)
    wrong |= ((orders >= 0) != (expected >= 0)).any(axis=1)
    if wrong.any():
        raise TrainingError(
            f"The re-ranker's order of list {ids[int(wrong.argmax())]!r} leaves a candidate out, places one twice or "
            "puts padding before one; it must return each candidate once and -1 behind the last."
        )


def _checked_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.isnan(scores).any():
        raise TrainingError("A score of the re-ranker is not a number; lower trainer.learning_rate and train again.")
    return scores


def _scorer_metrics(scores: NDArray[np.float64], labels: NDArray[np.float32]) -> dict[str, float]:
    """Of scores ``[Q, n]``, -inf where a list has no candidate."""
    real = ~np.isneginf(scores)
    owners = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)[real]
    positive = labels[real] > 0
    return {"auc": auc(positive, scores[real]), "gauc": gauc(positive, scores[real], owners)}


def group_means(per_list: pl.DataFrame, metrics: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """``ListEvaluation.groups`` of such a table."""
    grouped = per_list.group_by("activity").agg(pl.len().alias("users"), *(pl.col(name).mean() for name in metrics))
    found = {str(row.pop("activity")): row for row in grouped.to_dicts()}
    members = {
        group: {name: value for name, value in found[group].items() if value is not None}
        for group in ACTIVITIES
        if group in found
    }
    return {"activity": members}


def _mean(values: pl.Series) -> float:
    mean = values.mean()
    return float("nan") if mean is None else float(mean)  # type: ignore[arg-type]
