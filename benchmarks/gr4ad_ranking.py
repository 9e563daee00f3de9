"""E4 and E5: objectives on lists that the policy generates, from one checkpoint, and while bids drift."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gr4ad_laboratory import Laboratory, Row
from torch import Tensor

from recascade.models.evaluation_mode import evaluation_mode
from recascade.training.config import TrainerConfig
from recascade_gr4ad.ad_batches import AdData, event_worth
from recascade_gr4ad.ad_values import AdValues
from recascade_gr4ad.candidate_lists import CandidateLists, ListBatch, ListData, generate_lists
from recascade_gr4ad.config import PreferenceConfig, ValuesConfig
from recascade_gr4ad.lazy_ar import LazyAR
from recascade_gr4ad.module import GR4ADModule
from recascade_gr4ad.rspo import ranks_of

WEIGHTS = (1, 8, 30, 100)
OBJECTIVES = ("dpo", "grpo", "s-dpo", "rspo", "unified")


def reward_ndcg(log_probs: Tensor, grades: Tensor, mask: Tensor) -> Tensor:
    """``[B]``: NDCG of candidates ``[B, n]`` in the order of their probability, gains ``2^grade - 1``."""
    gains = torch.where(mask, torch.exp2(grades) - 1, 0.0)
    reached = (gains / torch.log2(ranks_of(log_probs, mask) + 2.0)).sum(1)
    best = (gains / torch.log2(ranks_of(grades, mask) + 2.0)).sum(1)
    return reached / best.clamp(min=1e-9)


def objectives(laboratory: Laboratory) -> Iterable[Row]:
    """E4: the second stage by objective and weight (×), all from one checkpoint and on the same lists of 16.
    ``reward NDCG`` orders lists of requests that no training list belongs to (each user's validation event) by the
    policy's probability. At equal weights RSPO moves the policy least, since its M lie well below 1: compare arms at
    equal recall."""
    for seed in laboratory.seeds:
        first = laboratory.train("e3-+ behaviour weights", seed, {})
        folder = laboratory.directory("e3-+ behaviour weights", seed)
        held_out = held_out_lists(laboratory, first, seed)
        yield {"arm": "vsl", "seed": seed, **_quality(laboratory, first, held_out)}
        start = {
            "model.preference.start": str(folder / "weights.safetensors"),
            "model.ids": str(folder / "semantic_ids.parquet"),
        }
        arms: dict[str, dict[str, Any]] = {
            f"{name} × {weight}": {"model.preference.objective": name, "model.preference.weight": float(weight)}
            for name in OBJECTIVES
            for weight in WEIGHTS
        }
        arms["rspo, M = 1"] = {"model.preference.objective": "rspo", "model.preference.weights": "uniform"}
        for name, overrides in arms.items():
            retriever = laboratory.train(f"e4-{name}", seed, {**start, **overrides})
            yield {"arm": name, "seed": seed, **_quality(laboratory, retriever, held_out)}


def held_out_lists(laboratory: Laboratory, retriever: Any, seed: int) -> ListBatch:
    """Lists for requests before validation events, as the given policy writes them."""
    ads = _ads(laboratory, laboratory.values(seed), laboratory.prepared.data.with_validation_trained(), seed)
    windows = ads.prefixes.windows
    ends = windows.starts + windows.lengths
    last = ends == np.asarray(laboratory.prepared.data.train_ends)[windows.users]
    ads.prefixes.windows = replace(
        windows, users=windows.users[last], starts=windows.starts[last], lengths=windows.lengths[last]
    )
    settings = PreferenceConfig(requests=min(laboratory.scale.users, 1000))
    lists = generate_lists(retriever, ads, laboratory.values(seed), settings, ValuesConfig(), seed=seed)
    return _batches(ads, lists, retriever.generator).batch(np.arange(len(lists.rows)))


def drift(laboratory: Laboratory) -> Iterable[Row]:
    """E5: a stream of lists whose bids are drawn anew half-way. Each chunk is ranked before it is learnt; lists come
    from a lagged copy of the policy, which is also the reference. ``late`` is the mean over the quarter of the stream
    right behind the change, ``end`` over the last quarter."""
    arms = {
        "sequential, δ = 0": PreferenceConfig(objective="rspo", threshold=0.0),
        "sequential, δ = 2": PreferenceConfig(objective="rspo", threshold=2.0),
        "sequential, δ = ∞": PreferenceConfig(objective="rspo", threshold=1e9),
        "unified, δ = 2": PreferenceConfig(objective="unified", threshold=2.0),
        "unified, δ = ∞": PreferenceConfig(objective="unified", threshold=1e9),
    }
    for seed in laboratory.seeds:
        for name, settings in arms.items():
            curve = _stream(laboratory, settings, seed)
            quarter = len(curve) // 4
            yield {
                "arm": name,
                "seed": seed,
                "before": float(np.mean(curve[quarter : 2 * quarter])),
                "late": float(np.mean(curve[2 * quarter : 3 * quarter])),
                "end": float(np.mean(curve[3 * quarter :])),
            }


def _stream(laboratory: Laboratory, settings: PreferenceConfig, seed: int) -> list[float]:
    """Reward NDCG of each chunk before it is learnt."""
    chunks, per_chunk, lag = 16, max(1, laboratory.scale.steps // 32), 4
    retriever = laboratory.train("e3-+ behaviour weights", seed, {})
    model = retriever.generator
    assert isinstance(model, LazyAR)
    worths = [laboratory.values(seed), laboratory.values(seed + 1000)]
    # The teacher of conversions stays; the bids are others.
    worths[1] = replace(worths[1], teacher=worths[0].teacher)
    ads = _ads(laboratory, worths[0], laboratory.prepared.data, seed)
    config = laboratory.experiment("e5", seed, {}).config
    config.preference = settings
    trainer = TrainerConfig()
    module = GR4ADModule(model, config, laboratory.prepared.data, trainer, retriever.widths, buckets=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    asked = replace(settings, requests=settings.batch * per_chunk)
    lagged, curve = copy.deepcopy(retriever), []
    for chunk in range(chunks):
        if chunk % lag == 0:
            lagged = copy.deepcopy(retriever)
        worth = worths[chunk >= chunks // 2]
        lists = generate_lists(lagged, ads, worth, asked, ValuesConfig(), seed=seed * 100 + chunk)
        data = _batches(ads, lists, model)
        curve.append(_mean_reward_ndcg(model, data.batch(np.arange(len(lists.rows)))))
        module.train()
        for start in range(0, len(lists.rows), settings.batch):
            optimizer.zero_grad()
            rows = np.arange(start, min(start + settings.batch, len(lists.rows)))
            module.training_step(data.batch(rows), 0).backward()
            optimizer.step()
    return curve


def _ads(laboratory: Laboratory, worth: AdValues, data: Any, seed: int) -> AdData:
    settings = ValuesConfig()
    return AdData(data, event_worth(data, worth, None, settings), TrainerConfig(), max_length=20, seed=seed)


def _batches(ads: AdData, lists: CandidateLists, model: LazyAR) -> ListData:
    return ListData(ads, lists, model.history.item_codes, TrainerConfig())


def _quality(laboratory: Laboratory, retriever: Any, held_out: ListBatch) -> Row:
    return {"reward NDCG": _mean_reward_ndcg(retriever.generator, held_out), **laboratory.measure(retriever)}


@torch.no_grad()
def _mean_reward_ndcg(model: LazyAR, batch: ListBatch) -> float:
    with evaluation_mode(model):
        log_probs = model.log_prob(model.encode(batch.logged.requests.context), batch.codes)
    return float(reward_ndcg(log_probs, batch.grades, batch.mask).mean())
