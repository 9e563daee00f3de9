"""The monitored metric of a retriever over the validation users, by full ranking, as the evaluation measures it."""

from __future__ import annotations

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.evaluation.monitor import split_monitor
from recascade.evaluation.ranking_metrics import ranking_metric
from recascade.evaluation.requests import find_hits, requests, target_sets


class RetrievalValidation:
    """Collects the metric of rows of the validation part, step by step.

    Args:
        data: the split.
        monitor: metric and list length, as ``ndcg@10``.
        exclude_seen: rank without the items of the user's own history.
    """

    def __init__(self, data: EncodedSplit, monitor: str, *, exclude_seen: bool) -> None:
        self.data = data
        self.metric, self.cutoff = parse_monitor(monitor)
        self.exclude_seen = exclude_seen
        self._values: list[NDArray[np.float64]] = []

    def measure(self, retriever: Retriever, rows: Tensor, device: torch.device) -> None:
        """Add the metric of these rows (int64 ``[B]``), for which the retriever computes on ``device``."""
        chosen, items = rows.cpu().numpy(), len(self.data.items)
        context = requests(self.data.events, self.data.validation, chosen).to(device)
        rankable = self.data.rankable
        candidates = None if rankable is None else torch.from_numpy(rankable).to(device)
        best = retriever.retrieve(context, self.cutoff, exclude_seen=self.exclude_seen, candidates=candidates)
        targets = target_sets(self.data.events, self.data.validation, chosen, items)
        hits = find_hits(best.items.int().cpu().numpy(), targets.rows, targets.items, items)
        self._values.append(ranking_metric(self.metric)(hits, targets.counts, self.cutoff))

    def take_mean(self, module: L.LightningModule) -> float:
        """Mean over the users of all ranks, NaN without any; begins anew."""
        values = np.concatenate(self._values) if self._values else np.empty(0)
        self._values = []
        values = values[~np.isnan(values)]
        sums = torch.tensor([values.sum(), len(values)], dtype=torch.float64, device=module.device)
        total, users = module.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return total / users if users else float("nan")


def parse_monitor(monitor: str) -> tuple[str, int]:
    """``"ndcg@10"`` to ``("ndcg", 10)``.

    Raises:
        ConfigurationError: no such metric, or no cutoff.
    """
    name, cutoff = split_monitor(monitor)
    ranking_metric(name)
    return name, cutoff
