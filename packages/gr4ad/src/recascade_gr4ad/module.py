"""Training of GR4AD: the losses of both stages, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from recascade.data.encoded import EncodedSplit
from recascade.models.evaluation_mode import evaluation_mode
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.training.compilation import compiled
from recascade.training.config import TrainerConfig
from recascade.training.retrieval_module import RetrievalModule
from recascade_gr4ad.ad_batches import AdBatch
from recascade_gr4ad.candidate_lists import ListBatch
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.lazy_ar import LazyAR
from recascade_gr4ad.preference import list_dpo, list_grpo, list_s_dpo
from recascade_gr4ad.rspo import Positions, Weights, mean_over_anchors, rspo_loss
from recascade_gr4ad.unified import rank_discrepancy, unified_weights
from recascade_gr4ad.value_buckets import ValueBuckets
from recascade_gr4ad.value_reranker import ValueReranker
from recascade_gr4ad.vsl import next_token_loss, step_losses, value_aware_loss


class GR4ADModule(RetrievalModule):
    """Minimises L_VSL on an ``AdBatch``; on a ``ListBatch`` a ranking objective beside L_VSL of the logged item.

    Args:
        model: the decoder.
        config: of the method.
        data: the split; its validation part is measured, its training part gives the popularity of items.
        trainer: learning rate, monitor and so on.
        widths: of the beams in validation.
        buckets: of the eCPM step, or None.
        exclude_seen: validate as the evaluation will.
    """

    model: LazyAR

    def __init__(
        self,
        model: LazyAR,
        config: GR4ADConfig,
        data: EncodedSplit,
        trainer: TrainerConfig,
        widths: Sequence[int],
        *,
        buckets: ValueBuckets | None,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, trainer, exclude_seen=exclude_seen)
        self.config = config
        self.widths = tuple(widths)
        self.buckets = buckets
        self._target_states = compiled(model.target_states, trainer)

    def training_step(self, batch: AdBatch | ListBatch, batch_idx: int) -> Tensor:
        """The loss of a batch, of either stage."""
        return self.ranking_loss(batch) if isinstance(batch, ListBatch) else self.imitation_loss(batch)

    def imitation_loss(self, batch: AdBatch, weights: Tensor | None = None) -> Tensor:
        """L_VSL (equation 15).

        Args:
            batch: N targets.
            weights: float ``[N]``, further weights of the targets, or None.
        """
        requests, model = batch.requests, self.model
        codes = model.history.item_codes.index_select(0, requests.targets)
        levels = len(model.sizes)
        states = self._target_states(
            requests.context, requests.positions, codes, requests.owners, multi_token=self.config.multi_token > 0
        )
        targets = [*codes.unbind(1), *([batch.buckets] if model.value_buckets else [])]
        losses = step_losses(self._logits(states.next_token), targets)
        next_token = next_token_loss(losses, levels, self.config.values.loss_weight)
        multi_token = None
        if states.multi_token is not None:
            multi_token = step_losses(self._logits(states.multi_token), targets[:levels]).sum(1)
        combined = batch.weights if weights is None else batch.weights * weights
        return value_aware_loss(next_token, multi_token, combined, self.config.multi_token)

    def ranking_loss(self, batch: ListBatch) -> Tensor:
        """The second stage's loss: the objective on the lists and, beside it, L_VSL on the logged items."""
        settings, model = self.config.preference, self.model
        # The reference was recorded without dropout; with it a policy that has not moved would seem to have.
        with evaluation_mode(model):
            log_probs = model.log_prob(model.encode(batch.logged.requests.context), batch.codes)
        ratios = log_probs - batch.reference
        grades, mask = batch.grades, batch.mask
        if settings.objective in ("rspo", "unified"):
            anchors = rspo_loss(
                log_probs,
                batch.reference,
                batch.recorded,
                grades,
                mask,
                beta=settings.beta,
                threshold=settings.threshold,
                positions=cast(Positions, settings.positions),
                weights=cast(Weights, settings.weights),
            )
            if settings.objective == "unified":
                discrepancy = rank_discrepancy(log_probs, grades, mask)
                shares = unified_weights(discrepancy, grades, base=settings.imitation, most_ranking=settings.weight)
                ranking = mean_over_anchors(shares.ranking * anchors, grades, mask)
                # The logged item stands first in its list, whose order says how far the policy is from the values'.
                return self.imitation_loss(batch.logged, shares.imitation[:, 0]) + ranking
            ranking = mean_over_anchors(anchors, grades, mask)
        elif settings.objective == "grpo":
            ranking = list_grpo(
                log_probs, batch.reference, grades, mask, clip=settings.clip, divergence_weight=settings.divergence
            )
        else:
            compare = list_dpo if settings.objective == "dpo" else list_s_dpo
            ranking = compare(ratios, grades, mask, settings.beta)
        total = settings.weight * ranking
        return total + settings.imitation * self.imitation_loss(batch.logged) if settings.imitation else total

    def retriever(self) -> GenerativeRetriever:
        """What serves the model as it is now."""
        rescore = None
        if self.buckets is not None and self.config.values.gamma:
            rescore = ValueReranker(self.model, self.buckets, self.config.values.gamma)
        return GenerativeRetriever(
            self.model,
            self.model.history.item_codes,
            self.popularity,
            self.widths,
            sharing=cast(Sharing, self.config.sharing),
            rescore=rescore,
        )

    def _logits(self, states: Tensor) -> list[Tensor]:
        """Of each step, float ``[N, V_t]``, from states ``[N, steps, d]``."""
        # Mixed precision gives half-precision states, but a sum over a level's codes needs single precision.
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        return [states[:, step] @ self.model.output_vectors(step).t() for step in range(states.shape[1])]
