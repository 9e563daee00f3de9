"""Reinforcement of a generator: groups, plan, kept answers, steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from recascade.contracts.generator import Generator
from recascade.data.next_item import NextItemBatch
from recascade.errors import ConfigurationError, DataError
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.code_tree import CodeTree, CompleteTree
from recascade.nn.prefix_trie import PrefixTrie
from recascade.training.compilation import compiled
from recascade.training.config import TrainerConfig
from recascade.training.optimizer import adam
from recascade_recast.actor import ActorRows, answer_log_probs, gather_rows
from recascade_recast.config import ReCastConfig
from recascade_recast.diagnostics import diagnose, unique_rate
from recascade_recast.groups import judge
from recascade_recast.objective import Clipping, divergence, policy_loss
from recascade_recast.plan import Plan, plan
from recascade_recast.repair import repair_share
from recascade_recast.reward import REWARDS
from recascade_recast.rollout import roll_out
from recascade_recast.tally import Tally
from recascade_recast.targets import pick_anchors, target_ids

_HEALTH = ("valid_rate", "entropy", "unique_rate", "reference_divergence")
_NATURAL_RATE_MEMORY = 0.9


class ReCastModule(L.LightningModule):
    """Generates groups, decides what is learnt from them, and steps on the answers that are kept.

    The model runs without dropout. Answers that carry no signal are removed before any log-probability is computed; the
    first step on a batch of answers needs no pass for the old log-probabilities, for they are its own.

    Args:
        model: a ``Generator`` that is an ``nn.Module``; trained.
        codes: int64 ``[I, L]``, ids of the items.
        config: of the method.
        trainer: precision and how often figures are logged; learning rate, warm-up, weight decay and clipping are
            ``config.update``'s.
        reference: what the divergence is measured from; None for the model as it is now.
        tree: the ids that may be written; None for those of ``codes``.
        callbacks: for the trainer of this stage.

    Raises:
        ConfigurationError: the reference writes other ids, or ``trainer.precision`` is ``16-mixed``.
    """

    natural_rate: Tensor
    item_codes: Tensor

    def __init__(
        self,
        model: nn.Module,
        codes: Tensor,
        config: ReCastConfig,
        trainer: TrainerConfig,
        *,
        reference: nn.Module | None = None,
        tree: PrefixTrie | None = None,
        callbacks: Sequence[L.Callback] = (),
    ) -> None:
        super().__init__()
        check_precision(trainer)
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.trainer_config = trainer
        self._answer_log_probs = compiled(answer_log_probs, trainer)
        self.clipping = Clipping.of(config.update)
        self.register_buffer("item_codes", codes, persistent=False)
        # A running mean, kept in checkpoints: adaptive repair goes on from it.
        self.register_buffer("natural_rate", torch.zeros(()))
        self.trie = PrefixTrie.build(codes, self.generator.sizes) if tree is None else tree
        self.reference: nn.Module | None = None
        if config.update.divergence or reference is not None:
            self.reference = copy.deepcopy(model) if reference is None else reference
            self.reference.eval().requires_grad_(False)
            check_reference(self.generator, self.reference)
        self.tally = Tally()
        self.health = Tally()
        self._callbacks = list(callbacks)

    @property
    def generator(self) -> Generator[Any]:
        """The model as the search sees it."""
        if not isinstance(self.model, Generator):
            raise ConfigurationError(
                f"{type(self.model).__name__} is no Generator (it needs encode, step and log_prob)."
            )
        return self.model

    def configure_callbacks(self) -> list[L.Callback]:
        """Those given."""
        return self._callbacks

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters, with ``config.update``'s learning rate, warm-up and weight decay."""
        update = self.config.update
        trainer = replace(
            self.trainer_config,
            learning_rate=update.learning_rate,
            warmup_steps=update.warmup_steps,
            weight_decay=update.weight_decay,
        )
        return adam(self.model.parameters(), trainer)

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """Answers to the batch's prompts, and as many optimiser steps on them as the settings say."""
        with evaluation_mode(self.model):
            begin = time.perf_counter()
            rows, answers = self.generate(batch)
            generated = time.perf_counter()
            loss = self.update(rows, answers)
        self.tally.add_total("generated_answers", answers)
        self.tally.add_total("actor_answers", int(rows.count))
        self.tally.add_total("actor_tokens", rows.tokens)
        self.tally.add_total("generate_seconds", generated - begin)
        self.tally.add_total("update_seconds", time.perf_counter() - generated)
        return loss

    @torch.no_grad()
    def generate(self, batch: NextItemBatch) -> tuple[ActorRows, int]:
        """The answers of P groups that go on, and how many were generated.

        Raises:
            DataError: a target's id is not in the tree.
            TrainingError: a reward is not a number, or an anchor gets none.
        """
        settings = self.config
        context = batch.context.last(self.generator.max_length)
        targets = target_ids(batch, self.item_codes)
        self._check_targets(targets)
        state = self.generator.encode(context)
        codes = roll_out(self.generator, state, self._tree(), settings.rollout)
        made, codes = self._plan(state, codes, targets)
        rows = gather_rows(
            context,
            codes,
            made.kept,
            made.advantages,
            made.slots >= 0,
            share_context=settings.update.share_context,
        )
        return rows, made.kept.numel()

    def take_health(self) -> dict[str, float]:
        """Means since the last call: share of answers that are items' ids, entropy per code, distinct answers of a
        group, divergence from the reference per answer."""
        means = self.health.take_means()
        return {name: means[name] for name in _HEALTH if name in means}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the figures every ``log_every`` batches."""
        batches = self.global_step // self.config.update.passes
        if batches % self.trainer_config.log_every == 0:
            line = self.tally.take_means() | self.tally.totals
            for logger in self.trainer.loggers:
                logger.log_metrics({**line, "epoch": self.current_epoch}, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Totals go on after an interruption, and so does what the next measurement of health looks back on."""
        checkpoint["recast_totals"] = dict(self.tally.totals)
        checkpoint["recast_health"] = self.health.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up both."""
        self.tally.totals.update(checkpoint["recast_totals"])
        self.health.load_state(checkpoint["recast_health"])

    def _plan(self, state: Any, codes: Tensor, targets: Tensor) -> tuple[Plan, Tensor]:
        """The plan of P groups with their codes int64 ``[P, G, L]``, and the codes with anchors in their places."""
        signal, update = self.config.signal, self.config.update
        reward = REWARDS[signal.reward]
        anchors = pick_anchors(targets, signal.anchor)
        before = judge(codes[:, :, None], targets, reward, signal.reward)
        share = repair_share(float(self.natural_rate), signal.adaptive)
        made = plan(
            before,
            judge(anchors[:, None, None], targets, reward, signal.reward),
            signal,
            scaled=update.family != "dr-grpo",
            unbiased=update.deviation == "unbiased",
            repairable=None if share == 1 else torch.rand(len(codes), device=codes.device) < share,
            log_probs=self.generator.log_prob(state, codes) if signal.ties == "log-prob" else None,
        )
        figures = diagnose(before, made)
        known = {"valid_rate": (self.trie.find(codes) >= 0).float().mean(), "unique_rate": unique_rate(codes)}
        self.tally.add({**figures, **known, "repair_share": share})
        self.health.add(known)
        self.natural_rate.lerp_(figures["natural_learnable_rate"], 1 - _NATURAL_RATE_MEMORY)
        replaced = torch.arange(codes.shape[1], device=codes.device) == made.slots[:, None]
        return made, torch.where(replaced[..., None], anchors[:, None], codes)

    def update(self, rows: ActorRows, answers: int) -> Tensor:
        """Optimiser steps on the kept answers; the loss of the first."""
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        update = self.config.update
        losses: list[Tensor] = []
        old: Tensor | None = None
        reference = self._reference_log_probs(rows)
        for number in range(update.passes):
            optimizer.zero_grad(set_to_none=True)
            if rows.tokens:
                log_probs, entropies = self._answer_log_probs(self.generator, rows.context, rows.codes)
                old = log_probs.detach() if old is None else old
                loss = self._loss(rows, log_probs, old, reference, answers)
                self.manual_backward(loss)
                norm = self._clip()
                losses.append(loss.detach())
                if number == 0:
                    self._note(rows, log_probs.detach(), entropies, reference, norm)
            # Without answers there is no gradient and nothing moves, but the batch counts.
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        return losses[0] if losses else torch.zeros((), device=self.device)

    def _loss(self, rows: ActorRows, log_probs: Tensor, old: Tensor, reference: Tensor | None, answers: int) -> Tensor:
        update = self.config.update
        policy = policy_loss(log_probs, old, rows.advantages, self.clipping)
        losses = policy.losses
        if reference is not None:
            losses = losses + update.divergence * divergence(log_probs, reference)
        with torch.no_grad():
            count = rows.count
            self.tally.add(
                {
                    "clip_rate": (policy.clipped * rows.mask).sum() / count,
                    "old_divergence": ((old - log_probs).sum(-1) * rows.mask).sum() / count,
                }
            )
        return (losses * rows.mask).sum() / (answers if update.denominator == "group" else count)

    @torch.no_grad()
    def _reference_log_probs(self, rows: ActorRows) -> Tensor | None:
        if not isinstance(self.reference, Generator) or not rows.tokens:
            return None
        begin = time.perf_counter()
        found = self._answer_log_probs(self.reference, rows.context, rows.codes)[0]
        self.tally.add_total("reference_seconds", time.perf_counter() - begin)
        return found

    def _clip(self) -> Tensor:
        """Clip the gradient; its norm before."""
        limit = self.config.update.gradient_clip or torch.inf
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    @torch.no_grad()
    def _note(
        self, rows: ActorRows, log_probs: Tensor, entropies: Tensor, reference: Tensor | None, norm: Tensor
    ) -> None:
        """Figures of the kept answers before the first step on them."""
        weights = rows.mask / rows.count
        whole = log_probs.sum(-1)
        figures = {"entropy": (entropies.mean(-1) * weights).sum(), "gradient_norm": norm}
        if reference is not None:
            figures["reference_divergence"] = (divergence(log_probs, reference) * weights).sum() * log_probs.shape[-1]
        positive = (rows.advantages > 0) & rows.mask
        for name, chosen in (("repaired", rows.repaired), ("natural", ~rows.repaired)):
            here = positive & chosen[:, None]
            if bool(here.any()):
                figures[f"positive_log_prob/{name}"] = whole[here].mean()
            if self.config.update.share_context and self.config.signal.contrast != "group" and bool(chosen.any()):
                margins = (whole * rows.advantages.sign() * rows.mask).sum(1)
                figures[f"margin/{name}"] = margins[chosen].mean()
        self.tally.add(figures)
        self.health.add(figures)

    def _tree(self) -> CodeTree:
        if self.trie.device != self.device:
            self.trie = self.trie.to(self.device)
        return self.trie if self.config.rollout.constrained else CompleteTree(tuple(self.generator.sizes))

    def _check_targets(self, targets: Tensor) -> None:
        there = (targets >= 0).all(-1)
        tree = self._tree()
        if isinstance(tree, PrefixTrie) and not bool((tree.find(targets.clamp(min=0))[there] >= 0).all()):
            raise DataError(
                "A target's id is not among those that may be written; build the trie from the ids of all items that "
                "training events hold."
            )


def check_precision(trainer: TrainerConfig) -> None:
    """Refuse the precision whose gradients are scaled, for the module clips and steps by itself.

    Raises:
        ConfigurationError: it is ``16-mixed``.
    """
    if trainer.precision == "16-mixed":
        raise ConfigurationError(
            "trainer.precision is 16-mixed, which scales the gradients that reinforcement clips by itself; set it to "
            "bf16-mixed or 32-true."
        )


def check_reference(model: Generator[Any], reference: nn.Module) -> None:
    """Refuse a reference that cannot judge the model's answers.

    Raises:
        ConfigurationError: it is no generator, or writes other ids.
    """
    if not isinstance(reference, Generator):
        raise ConfigurationError(f"The reference, a {type(reference).__name__}, is no generator of semantic ids.")
    if tuple(model.sizes) != tuple(reference.sizes):
        raise ConfigurationError(
            f"The reference model writes ids over {list(reference.sizes)} codes per level and the trained one over "
            f"{list(model.sizes)}; both must have the same semantic ids."
        )
