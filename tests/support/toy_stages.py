"""Stages of a cascade that do little, and go wrong on demand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recascade.cascade.cascade import RerankingStage
from recascade.cascade.live_stages import Live, LiveStages
from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK

Fault = Literal["", "killed", "slow", "nonsense"]
SLOW_SECONDS = 0.3


class Faulty:
    """Something that can be told to fail, to wait, or to answer nonsense."""

    fault: Fault = ""

    def suffer(self) -> bool:
        """Do what the fault says; True where the answer should be nonsense."""
        if self.fault == "killed":
            raise RuntimeError("secret detail of a stage that is gone")
        if self.fault == "slow":
            time.sleep(SLOW_SECONDS)
        return self.fault == "nonsense"


@dataclass
class ToyRetriever(Faulty):
    """Items in the order of their numbers, beginning at ``first``."""

    items: int
    first: int = 0

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        chosen = (torch.arange(min(k, self.items)) + self.first) % self.items
        if self.suffer():
            chosen = torch.full_like(chosen, 7)
        rows = chosen.expand(context.batch_size, -1)
        return TopK(rows, -torch.arange(len(chosen), dtype=torch.float32).expand(rows.shape))


class ToyRanker(Faulty):
    """Greater item numbers first."""

    def score(self, context: Context, items: Tensor) -> Tensor:
        return torch.full(items.shape, torch.nan) if self.suffer() else items.float()


@dataclass(frozen=True)
class ToyBatch:
    items: Tensor

    def to(self, device: Any) -> ToyBatch:
        return self


class ToyInputs:
    def batch(self, context: Context, items: Tensor, scores: Tensor | None = None) -> ToyBatch:
        return ToyBatch(items)


class ToyReranker(Faulty):
    """The list backwards."""

    def rerank(self, batch: ToyBatch, count: int) -> Tensor:
        order = torch.arange(count - 1, -1, -1).expand(len(batch.items), -1)
        return torch.zeros_like(order) if self.suffer() else order


def toy_stages(items: int, *, version: str = "1", retrieved: int = 20, reranked: int = 10) -> LiveStages:
    """A retriever, a ranker and a re-ranker."""
    return LiveStages(
        retriever=Live(ToyRetriever(items), "toy", version),
        retrieved=retrieved,
        ranker=Live(ToyRanker(), "toy", version),
        reranker=Live(RerankingStage(ToyReranker(), ToyInputs(), reranked), "toy", version),
    )
