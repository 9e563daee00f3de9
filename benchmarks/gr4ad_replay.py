"""E7: one service of GR4AD in front of a day's traffic, with each of its parts switched on in turn."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from gr4ad_laboratory import Laboratory, Row

from recascade.evaluation.requests import requests
from recascade.models.generative_retriever import GenerativeRetriever
from recascade_gr4ad.beam_serving import BeamController
from recascade_gr4ad.lazy_ar import LazyAR, decoding_work
from recascade_gr4ad.result_cache import CachedList, ResultCache

DAY = 3600.0
"""Seconds of the trace: a day that lasts an hour."""
LIMIT_MS = 100.0


def replay(laboratory: Laboratory) -> Iterable[Row]:
    """E7: a simulated queue of one server whose service times are CPU times measured by beam width. The peak asks for
    three quarters of what fixed full beams could answer. ``late`` is the share of answers above 100 ms, ``mean width``
    that of the last level relative to full load."""
    lazy = laboratory.train(
        "e2-K",
        laboratory.seeds[0],
        {"model.values.source": "none", "model.values.buckets": 0, "model.values.user_weights": False},
    )
    model = lazy.generator
    assert isinstance(model, LazyAR)
    width = laboratory.scale.beams
    fixed, rising = (width, width, width), (max(1, width // 4), width // 2, width)
    costs = {widths: _cost(laboratory, lazy, widths) for widths in (fixed, rising)}
    peak = 0.75 / costs[fixed]
    arms = {
        "fixed beams": (fixed, False, False),
        "rising beams": (rising, False, False),
        "+ cache": (rising, True, False),
        "+ traffic-aware": (rising, True, True),
    }
    for name, (widths, cached, aware) in arms.items():
        for seed in laboratory.seeds:
            yield {"arm": name, "seed": seed, **_trace(model, widths, costs[widths], peak, cached, aware, seed)}


def _cost(laboratory: Laboratory, retriever: GenerativeRetriever, widths: tuple[int, ...]) -> float:
    """CPU seconds of one request at these widths: the median."""
    data = laboratory.prepared.data
    rows = np.random.default_rng(2).permutation(len(data.test))[:40]
    retriever.widths = widths
    took = []
    for number in range(len(rows)):
        context = requests(data.events, data.test, rows[number : number + 1])
        begin = time.process_time()
        retriever.retrieve(context, 10)
        took.append(time.process_time() - begin)
    return float(np.median(took))


def _trace(
    model: LazyAR, widths: tuple[int, ...], cost: float, peak: float, cached: bool, aware: bool, seed: int
) -> Row:
    """Arrivals by a diurnal rate, users by popularity; a single server, first come first served."""
    random = np.random.default_rng(seed)
    proposed = np.sort(random.uniform(0, DAY, random.poisson(peak * DAY)))
    rate = 0.6 + 0.4 * np.sin(2 * np.pi * proposed / DAY - np.pi / 2)
    times = proposed[random.random(len(proposed)) < rate]
    users = random.zipf(1.3, len(times)) % 5000
    controller = BeamController(widths, busy_rate=0.9 * peak if aware else 0.0, idle_rate=0.2 * peak, seconds=30.0)
    cache = ResultCache(60.0 if cached else 0.0, 100_000)
    full = decoding_work(len(model.blocks), model.trunk_layers, 4, widths)
    free, waits, used = 0.0, [], []
    nothing = CachedList([""] * 10, [0.0] * 10)
    for now, user in zip(times.tolist(), map(str, users.tolist()), strict=True):
        chosen = controller.arrive(now)
        if cache.get(user, "", 10, now, lambda _: True) is not None:
            waits.append(0.0)
            continue
        work = decoding_work(len(model.blocks), model.trunk_layers, 4, chosen)
        free = max(free, now) + cost * work / full
        waits.append(free - now)
        used.append(chosen[-1] / widths[-1])
        cache.put(user, "", nothing, now)
    latencies = 1000 * np.array(waits)
    return {
        "cpu ms": 1000 * cost,
        "p50 ms": float(np.median(latencies)),
        "p99 ms": float(np.quantile(latencies, 0.99)),
        "late": float((latencies > LIMIT_MS).mean()),
        "cache hits": cache.hits / len(times),
        "mean width": float(np.mean(used)),
    }
