"""Retrieval as of a moment: how high the towers rank, among all items liked so far, what is liked next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recascade.data.event_batch import EventBatch
from recascade.evaluation.rank_agreement import kendall_tau
from recascade_cs3.learner import OnlineLearner

CUTOFFS = (10, 50, 100)
AGREEMENT_CANDIDATES = 50


@torch.inference_mode()
def probe(learner: OnlineLearner, batch: EventBatch) -> dict[str, Any]:
    """Rank the whole catalogue for each positive of a batch that the learner has not seen yet.

    The candidates are the items with a positive so far; an item outside them counts as missed. Items of equal score
    share the mean of their ranks.

    Args:
        learner: before it is given the batch, but with rows for its users and items.
        batch: the next one of the stream.

    Returns:
        ``offset``, ``positives``, ``candidates``, ``recall@10``, ``recall@50``, ``recall@100``, ``ndcg@10`` (one target
        per event) and, where a ranker learns too, ``kendall_tau``: its agreement with the towers on the same
        candidates, drawn at random with replacement, as a mean over the positives' users; left out where all scores
        tie, as those of a single candidate do.
    """
    candidates = learner.tables.item_positives.nonzero()[:, 0]
    liked = batch.labels > 0
    users, targets = torch.from_numpy(batch.users[liked]), torch.from_numpy(batch.items[liked])
    facts: dict[str, Any] = {"offset": batch.offset, "positives": len(users), "candidates": len(candidates)}
    if not len(users) or not len(candidates):
        return facts
    backbone = learner.module.backbone
    context = learner.tables.histories.context(users, torch.from_numpy(batch.timestamps[liked]))
    user_vectors = backbone.user_vectors(context, learner.tables.user_inputs(users))
    item_vectors = backbone.item_vectors(candidates, learner.tables.item_inputs(candidates))
    scores = backbone.scores(user_vectors, item_vectors)
    ranks = _ranks(scores, candidates, targets)
    for cutoff in CUTOFFS:
        facts[f"recall@{cutoff}"] = float((ranks <= cutoff).float().mean())
    gains = torch.where(ranks <= 10, 1 / torch.log2(ranks + 1), 0.0)
    facts["ndcg@10"] = float(gains.mean())
    if learner.module.ranker is not None:
        random = np.random.default_rng((learner.seed, batch.offset))
        drawn = torch.from_numpy(random.integers(len(candidates), size=(len(users), AGREEMENT_CANDIDATES)))
        ranked = learner.module.ranker.score(context, candidates[drawn])
        agreement = kendall_tau(scores.gather(1, drawn).numpy(), ranked.numpy())
        if not math.isnan(agreement):
            facts["kendall_tau"] = agreement
    return facts


def _ranks(scores: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
    """float32 ``[n]``, the place of each target counted from 1; infinite for one that is no candidate."""
    places = torch.searchsorted(candidates, targets).clamp(max=len(candidates) - 1)
    present = candidates[places] == targets
    own = scores.gather(1, places[:, None])
    better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    return torch.where(present, better + equal / 2 + 1, torch.inf)
