"""The weight of the ranker against the retriever's order: that which validation likes best."""

from __future__ import annotations

import numpy as np
import torch

from recascade.cascade.cascade import in_order_of, retrieve_with, scores_of
from recascade.contracts.ranker import Ranker
from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import validation_rows
from recascade.evaluation.ranking_metrics import ranking_metric
from recascade.evaluation.requests import find_hits, requests, target_sets
from recascade.training.config import TrainerConfig
from recascade.training.retrieval_validation import parse_monitor

WEIGHTS = tuple(step / 10 for step in range(11))
_REQUESTS_AT_ONCE = 256


@torch.inference_mode()
def best_weight(
    retriever: Retriever,
    ranker: Ranker,
    data: EncodedSplit,
    trainer: TrainerConfig,
    *,
    retrieved: int,
    exclude_seen: bool,
    seed: int,
) -> float:
    """The weight of ``WEIGHTS`` with the best ``trainer.monitor`` on the validation requests; the greatest of equals.

    Each request is retrieved and scored once. The stages chose their own weights on the same requests, which flatters
    both of them alike; the test part is not looked at.

    Args:
        retriever: finds the candidates.
        ranker: scores them.
        data: the split; at most ``trainer.validation_users`` of its validation users are asked for.
        trainer: ``monitor`` and ``validation_users``.
        retrieved: candidates of a request.
        exclude_seen: rank without the items of the user's own history.
        seed: of the sample.
    """
    name, cutoff = parse_monitor(trainer.monitor)
    rows = validation_rows(data, trainer.validation_users, seed)
    candidates = None if data.rankable is None else torch.from_numpy(data.rankable)
    totals = np.zeros(len(WEIGHTS))
    for start in range(0, len(rows), _REQUESTS_AT_ONCE):
        batch = rows[start : start + _REQUESTS_AT_ONCE]
        context = requests(data.events, data.validation, batch)
        found = retrieve_with(
            retriever, context, max(cutoff, retrieved), exclude_seen=exclude_seen, candidates=candidates
        )
        scores = scores_of(ranker, context, found.items)
        targets = target_sets(data.events, data.validation, batch, len(data.items))
        for place, weight in enumerate(WEIGHTS):
            lists = in_order_of(scores, found, weight).items[:, :cutoff].int().numpy()
            hits = find_hits(lists, targets.rows, targets.items, len(data.items))
            totals[place] += np.nansum(ranking_metric(name)(hits, targets.counts, cutoff))
    return WEIGHTS[len(WEIGHTS) - 1 - int(np.argmax(totals[::-1]))]
