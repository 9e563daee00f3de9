"""Lists that the policy itself generates, with what each candidate is worth: what the second stage learns to rank
(GR4AD, §3.5 and figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.data.batching import BatchSettings
from recascade.data.loader import ResumableLoader, training_loader
from recascade.models.evaluation_mode import evaluation_mode
from recascade.models.generative_retriever import GenerativeRetriever
from recascade_gr4ad.ad_batches import AdBatch, AdData, first_targets
from recascade_gr4ad.ad_values import AdValues
from recascade_gr4ad.config import PreferenceConfig, ValuesConfig
from recascade_gr4ad.lazy_ar import LazyAR
from recascade_gr4ad.value_buckets import ValueBuckets

_REQUESTS_AT_ONCE = 64
# A draw from this many times the list's length, as many as the paper's "larger beam" is understood to be.
_DRAWN_FROM = 4


@dataclass(frozen=True)
class CandidateLists:
    """R lists of n candidates; the first of each is the logged item.

    Attributes:
        rows: int64 ``[R]``, training prefixes, see ``AdData``.
        items: int64 ``[R, n]``, -1 where absent.
        values: float32 ``[R, n]``, eCPM, 0 where absent.
        grades: float32 ``[R, n]``, v, bounded.
        reference: float32 ``[R, n]``, log-probabilities recorded when the list was made.
        recorded: bool ``[R]``, whether there is such a record.
    """

    rows: NDArray[np.int64]
    items: Tensor
    values: Tensor
    grades: Tensor
    reference: Tensor
    recorded: Tensor

    @property
    def mask(self) -> Tensor:
        """bool ``[R, n]``, the candidates that are there."""
        return self.items >= 0


@dataclass(frozen=True)
class ListBatch:
    """B requests, each with its logged item and a list of n candidates (fields as of ``CandidateLists``)."""

    logged: AdBatch
    codes: Tensor
    grades: Tensor
    reference: Tensor
    recorded: Tensor
    mask: Tensor

    @property
    def event_count(self) -> int:
        """Events that go through the model."""
        return self.logged.event_count

    @property
    def target_count(self) -> int:
        """Candidates."""
        return self.mask.numel()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ListBatch:
        """The same batch on another device."""
        tensors = (self.codes, self.grades, self.reference, self.recorded, self.mask)
        return ListBatch(
            self.logged.to(device, non_blocking=non_blocking),
            *(tensor.to(device, non_blocking=non_blocking) for tensor in tensors),
        )


class ListData(L.LightningDataModule):
    """Batches of candidate lists; validation as before.

    Args:
        ads: where the requests come from.
        lists: of some of its prefixes.
        item_codes: int64 ``[I, T]``.
        settings: batch sizes (a ``TrainerConfig`` will do).
    """

    def __init__(self, ads: AdData, lists: CandidateLists, item_codes: Tensor, settings: BatchSettings) -> None:
        super().__init__()
        self.ads = ads
        self.lists = lists
        self.item_codes = item_codes
        self.settings = settings

    def train_dataloader(self) -> ResumableLoader[ListBatch]:
        """Every list once per epoch, over all ranks."""
        lengths = self.ads.prefixes.windows.lengths[self.lists.rows]
        return training_loader(self.batch, lengths, self.settings, self, seed=self.ads.seed)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Rows of the validation part."""
        self.ads.trainer = self.trainer
        return self.ads.val_dataloader()

    def batch(self, indices: NDArray[np.int64]) -> ListBatch:
        """The batch of the given lists (int64 ``[B]``)."""
        lists, chosen = self.lists, torch.from_numpy(indices)
        items = lists.items[chosen]
        return ListBatch(
            first_targets(self.ads.training_batch(lists.rows[indices])),
            self.item_codes[items.clamp(min=0)],
            lists.grades[chosen],
            lists.reference[chosen],
            lists.recorded[chosen],
            items >= 0,
        )


def generate_lists(
    retriever: GenerativeRetriever,
    ads: AdData,
    values: AdValues,
    preference: PreferenceConfig,
    grading: ValuesConfig,
    *,
    seed: int,
) -> CandidateLists:
    """Let the policy write lists for training requests, and let the reward model judge them.

    Requests are drawn in proportion to their user's value (the paper samples high-value users), without replacement. A
    list holds the logged item, the best ids of a search, and for the ``exploration`` share ids drawn from the places
    behind them, down to four times its length, with Gumbel noise at the given temperature (the paper: "a larger beam
    and controlled random exploration", without numbers). An id stands for its most popular item.

    Args:
        retriever: the policy.
        ads: where the requests come from.
        values: the reward model.
        preference: how many lists, how long, and how they explore.
        grading: how values become grades.
        seed: of every draw.
    """
    random = np.random.default_rng((seed, 41))
    windows = ads.prefixes.windows
    worth = ads.worth.user_values[windows.users]
    chance = worth + max(float(worth.mean()), 1.0) * 0.1
    count = min(preference.requests, len(windows.users))
    rows = random.choice(len(windows.users), count, replace=False, p=chance / chance.sum())
    generator = torch.Generator().manual_seed(int(random.integers(1 << 62)))
    parts = [
        _lists_of(retriever, ads, rows[start : start + _REQUESTS_AT_ONCE], preference, generator)
        for start in range(0, count, _REQUESTS_AT_ONCE)
    ]
    items, reference = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    there = items >= 0
    worths = [
        values.expected(
            first_targets(ads.training_batch(rows[start : start + _REQUESTS_AT_ONCE])).requests.context,
            items[start : start + _REQUESTS_AT_ONCE].clamp(min=0),
        )
        for start in range(0, count, _REQUESTS_AT_ONCE)
    ]
    found = torch.cat(worths).masked_fill(~there, 0.0)
    buckets = ValueBuckets.fit(found[there].double().numpy(), grading.grades)
    grades = torch.from_numpy(buckets.grades(found.numpy(), grading.highest_grade))
    return CandidateLists(rows, items, found, grades, reference, torch.ones(count, dtype=torch.bool))


@torch.inference_mode()
def _lists_of(
    retriever: GenerativeRetriever,
    ads: AdData,
    rows: NDArray[np.int64],
    preference: PreferenceConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Items int64 and recorded log-probabilities float32 of the lists of these rows, both ``[b, n]``, on the CPU."""
    batch = first_targets(ads.training_batch(rows)).requests
    context = batch.context.to(retriever.device)
    generated = preference.length - 1
    explored = round(preference.exploration * generated)
    found = retriever.search(context, _DRAWN_FROM * preference.length)
    scores, leaves = found.log_probs.cpu().float(), found.leaves.cpu()
    noise = -torch.log(-torch.log(torch.rand(scores.shape, generator=generator).clamp(1e-12, 1 - 1e-7)))
    keys = scores / preference.temperature + noise
    # The best stay whatever the noise says.
    keys[:, : generated - explored] = torch.inf
    chosen = keys.masked_fill(leaves < 0, -torch.inf).topk(min(generated, keys.shape[1]), dim=1).indices
    items = _most_popular(retriever, leaves.gather(1, chosen))
    model = retriever.generator
    assert isinstance(model, LazyAR)
    codes = model.history.item_codes.cpu()
    logged = batch.targets[:, None]
    # The logged item's id may be among those the search found.
    again = (codes[items.clamp(min=0)] == codes[logged]).all(-1)
    items = torch.cat([logged, items.masked_fill(again, -1)], dim=1)
    with evaluation_mode(model):
        asked = codes[items.clamp(min=0)].to(retriever.device)
        recorded = model.log_prob(model.encode(context), asked).cpu().float()
    return items, recorded


def _most_popular(retriever: GenerativeRetriever, leaves: Tensor) -> Tensor:
    """The most popular item of each leaf int64 ``[b, m]``, -1 where there is none."""
    places, items = retriever.trie.items_of(leaves.flatten().to(retriever.trie.device))
    places, items = places.cpu(), items.cpu()
    order = torch.argsort(retriever.popularity.cpu()[items], descending=True, stable=True)
    order = order[torch.argsort(places[order], stable=True)]
    places, items = places[order], items[order]
    first = torch.ones(len(places), dtype=torch.bool)
    first[1:] = places[1:] != places[:-1]
    result = torch.full((leaves.numel(),), -1, dtype=torch.int64)
    result[places[first]] = items[first]
    return result.view(leaves.shape)
