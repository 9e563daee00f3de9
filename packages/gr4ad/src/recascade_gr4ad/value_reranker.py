"""One decoding step behind a search, which orders what was found by its predicted value (GR4AD, §3.3 and §4.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.generator import Beams
from recascade.nn.beam_search import FoundIds
from recascade_gr4ad.lazy_ar import LazyAR, LazyState
from recascade_gr4ad.value_buckets import ValueBuckets, rerank_by_value


class ValueReranker:
    """Callable as ``rescore`` of a ``GenerativeRetriever``.

    Args:
        model: with an eCPM step.
        buckets: of that step.
        gamma: γ, see ``rerank_by_value``.
    """

    def __init__(self, model: LazyAR, buckets: ValueBuckets, gamma: float) -> None:
        self.model = model
        self.gamma = gamma
        self._means = torch.from_numpy(buckets.means).float()

    def __call__(self, state: LazyState, found: FoundIds) -> FoundIds:
        """The same ids by ``log p + γ log E[value]``."""
        return rerank_by_value(found, self.bucket_log_probs(state, found), self._means, self.gamma)

    def expected_values(self, state: LazyState, found: FoundIds) -> Tensor:
        """E[eCPM] float ``[B, W]`` of each id that was found."""
        log_probs = self.bucket_log_probs(state, found)
        return log_probs.exp() @ self._means.to(log_probs)

    def bucket_log_probs(self, state: LazyState, found: FoundIds) -> Tensor:
        """``[B, W, value_buckets]``; the beams' caches go on from the search's last step."""
        return self.model.step(state, Beams(found.codes.clamp(min=0), found.parents))
