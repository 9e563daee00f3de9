"""Evaluations in 1, 2 and 3 processes, for ``test_shards.py``, which runs this script with a directory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from small_lists import small_lists
from together import together
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences
from recascade.data.reranking_batch import RerankingBatch
from recascade.data.vocabulary import Vocabulary
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.evaluate_lists import evaluate_lists
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.evaluation.shards import Shard
from recascade.nn.list_order import order_by_scores
from recascade.nn.top_k import top_k_inner_product

ITEMS, USERS = 90, 70


def split() -> EncodedSplit:
    """Random histories; the last event is the test target, the one before it the validation target."""
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(random.integers(3, 15, USERS))])
    items = random.integers(0, ITEMS, offsets[-1]).astype(np.int32)
    events = EventSequences(offsets, items, np.arange(len(items)) * 60, np.arange(len(items), dtype=np.int32))
    everyone, ends = np.arange(USERS), offsets[1:] - 1

    def held_out(targets: np.ndarray) -> HeldOut:
        return HeldOut(everyone, targets, np.arange(USERS + 1), items[targets], targets * 60)

    names = (Vocabulary([f"{kind}{n}" for n in range(count)]) for kind, count in (("i", ITEMS), ("u", USERS)))
    return EncodedSplit(None, *names, events, ends - 1, held_out(ends - 1), held_out(ends))  # type: ignore[arg-type]


class MeanVector:
    """A mean over the history, whose floating-point sums would show another composition of batches."""

    def __init__(self) -> None:
        self.table = torch.randn(ITEMS, 16, generator=torch.Generator().manual_seed(0))
        self.asked = 0

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        self.asked += context.batch_size
        means = torch.segment_reduce(self.table[context.items], "mean", offsets=context.offsets)
        return top_k_inner_product(means, self.table, k, seen=context if exclude_seen else None, candidates=candidates)


class Scorer:
    def scores(self, batch: RerankingBatch) -> Tensor:
        return batch.initial_scores.sin().masked_fill(~batch.candidate_mask, -torch.inf)

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        return order_by_scores(self.scores(batch), batch.candidate_mask, count)


def measure(rank: int, directory: Path, processes: int) -> None:
    if processes > 1:
        dist.init_process_group("gloo")
    shard = Shard(rank, processes)
    retriever = MeanVector()
    config = EvaluationConfig(cutoffs=[5, 10], batch_size=8, exclude_seen=True)
    found = evaluate(retriever, split(), "test", config, "cpu", shard)
    place = directory / f"{processes}-{rank}"
    place.mkdir(parents=True)
    found.per_user.write_parquet(place / "per_user.parquet")
    np.save(place / "lists.npy", found.lists)
    summaries = {"asked": retriever.asked, "summary": found.summary, "groups": found.groups}
    lists = evaluate_lists(
        Scorer(), small_lists(), "test", ListEvaluationConfig(cutoffs=[1, 3], batch_size=2), "cpu", shard
    )
    lists.per_list.write_parquet(place / "per_list.parquet")
    np.save(place / "orders.npy", lists.orders)
    summaries |= {"list_summary": lists.summary, "list_groups": lists.groups}
    (place / "summaries.json").write_text(json.dumps(summaries))


if __name__ == "__main__":
    for count in (1, 2, 3):
        assert together(measure, Path(sys.argv[1]), count, processes=count) == [""] * count
