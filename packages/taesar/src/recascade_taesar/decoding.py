"""Adaptive contrastive decoding: by what item of the target domain an event of another domain is replaced, if at all.

All places are independent of each other (a replacement is never read by a model), so they are decoded in matrix
products over many places, for all target domains in one pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from recascade_taesar.blocks import DomainBlocks
from recascade_taesar.config import DecodingConfig
from recascade_taesar.scores import Divergence, confidence, divergence, implausible

# Logits of one model that are scored at a time: on a CPU, a few tables of that many (1 MB) stay in its caches. Fewer
# places than that at once would slow the matrix products down, so they run ahead. Our choice, measured.
_ELEMENTS_CPU = 1 << 18
_ELEMENTS_GPU = 1 << 26
_LEAST_PLACES = 128
# Columns of one matrix product: the piece of the item matrix stays in a core's own cache while all places read it.
_COLUMNS = 1024


class Replacements(NamedTuple):
    """For P places: ``columns`` int64 ``[P]``, -1 where the event is deleted, and ``scores`` float ``[P]`` of the
    columns that won (of the best column of the target's block where the event is deleted)."""

    columns: Tensor
    scores: Tensor


class PlaceStates(NamedTuple):
    """The states of P places in one source domain: ``mixed`` ``[P, d]``, ``source`` ``[P, d]`` of that domain's expert,
    and ``targets``: domain → ``[P, d]`` of the expert."""

    mixed: Tensor
    source: Tensor
    targets: dict[int, Tensor]


class ContrastiveDecoder:
    """Decodes places with the item matrices of the mixed model and of every expert.

    Args:
        mixed: ``[C, d]``, item vectors of the mixed model in the order of the blocks' columns.
        experts: of each of the M domains' experts, likewise.
        blocks: which columns belong to which domain.
        config: how to score.
    """

    def __init__(self, mixed: Tensor, experts: Sequence[Tensor], blocks: DomainBlocks, config: DecodingConfig) -> None:
        self.mixed = mixed
        self.experts = experts
        self.blocks = blocks
        self.config = config
        on_cpu = mixed.device.type == "cpu"
        elements = _ELEMENTS_CPU if on_cpu else _ELEMENTS_GPU
        self.columns = _COLUMNS if on_cpu else max(1, len(mixed))
        self.scored = max(1, elements // len(mixed))
        self.places = max(_LEAST_PLACES, self.scored)

    @torch.inference_mode()
    def decode(self, states: PlaceStates, source: int) -> dict[int, Replacements]:
        """What stands at each place, for each target domain of ``states``.

        Args:
            states: P places whose events belong to ``source``.
            source: a domain that is none of the targets.
        """
        found: dict[int, list[Replacements]] = {domain: [] for domain in states.targets}
        # Tables that are written again and again, because new memory costs as much as a pass through it.
        most = min(self.places, len(states.mixed))
        tables = self.mixed.new_empty(2 + len(states.targets), most, len(self.mixed))
        matrices = [self.mixed, self.experts[source], *(self.experts[domain] for domain in states.targets)]
        for part in _parts(len(states.mixed), self.places):
            own = [table[part] for table in (states.mixed, states.source, *states.targets.values())]
            logits = tables[:, : len(own[0])]
            for table, vectors, matrix in zip(logits, own, matrices, strict=True):
                for columns in _parts(len(matrix), self.columns):
                    torch.mm(vectors, matrix[columns].t(), out=table[:, columns])
            for rows in _parts(len(own[0]), self.scored):
                mixed, other, *targets = logits[:, rows]
                self._score(mixed, other, dict(zip(states.targets, targets, strict=True)), found)
        return {domain: Replacements(*map(torch.cat, zip(*parts, strict=True))) for domain, parts in found.items()}

    def _score(
        self, mixed: Tensor, source: Tensor, targets: dict[int, Tensor], found: dict[int, list[Replacements]]
    ) -> None:
        penalty = None if self.config.scores == "local" else source_penalty(mixed, source, self.config)
        for domain, target in targets.items():
            block = self.blocks.block(domain)
            found[domain].append(replacements(target, mixed, source, penalty, block, self.config))


def _parts(count: int, size: int) -> Iterator[slice]:
    # At least one part, so that no places give empty results of the right types.
    return (slice(start, min(start + size, count)) for start in range(0, max(count, 1), size))


def replacements(
    target: Tensor, mixed: Tensor, source: Tensor, penalty: Tensor | None, block: slice, config: DecodingConfig
) -> Replacements:
    """Decide for P places and one target domain.

    Args:
        target: ``[P, C]``, logits of the target domain's expert.
        mixed: ``[P, C]``, of the mixed model.
        source: ``[P, C]``, of the expert of the event's own domain.
        penalty: ``[P, C]``, what the source expert takes off the global scores, from ``source_penalty``; unused under
            ``scores=local``.
        block: columns of the target domain.
        config: how to score.
    """
    best = target.new_full((len(target),), -torch.inf)
    winner = torch.zeros(len(target), dtype=torch.int64, device=target.device)
    left, right = best, best
    entering = torch.zeros_like(winner, dtype=torch.bool)
    converted = ~entering
    if config.scores != "local":
        scores = _weighted(target, penalty, config)
        left, right = _greatest(scores[:, : block.start]), _greatest(scores[:, block.stop :])
        inside = scores[:, block]
        best = inside.amax(1)
        # Of equal scores the first column wins, as in the release.
        converted = (best > left) & (best >= right)
        if block.start:
            entering = (scores[:, block.start - 1] == left) & (left >= right)
    if config.scores == "global":
        winner = inside.argmax(1)
    else:
        rows = converted.nonzero()[:, 0]
        own, common, other = (logits[:, block].index_select(0, rows) for logits in (target, mixed, source))
        local = _weighted(own, source_penalty(common, other, config), config)
        best[rows], winner[rows] = local.max(1)
        if config.local_argmax == "all":
            converted = converted & (best > left) & (best >= right)
    columns = torch.where(converted, winner + block.start, -1)
    if config.id_shift:
        moved = torch.where(columns + 1 < block.stop, columns + 1, -1)
        # The item before the block, moved by one, is the block's first.
        columns = torch.where(converted, moved, torch.where(entering, block.start, -1))
    return Replacements(columns, best)


def source_penalty(mixed: Tensor, source: Tensor, config: DecodingConfig) -> Tensor | None:
    """``β z_S``, ``[P, C]``: what the source expert takes off the scores; None without source experts."""
    if not config.source_experts:
        return None
    values = source.log_softmax(1) if config.space == "probabilities" else source
    return divergence(mixed, source, cast(Divergence, config.js)) * values if config.divergence else values


def _weighted(target: Tensor, penalty: Tensor | None, config: DecodingConfig) -> Tensor:
    """``(1 + α) z_T - β z_S``, ``[P, C]``."""
    values = target.log_softmax(1) if config.space == "probabilities" else target
    scores = confidence(target).add_(1.0).mul_(values) if config.entropy else 2.0 * values
    if penalty is not None:
        scores -= penalty
    if config.plausibility:
        scores.masked_fill_(implausible(target, config.plausibility), -torch.inf)
    return scores


def _greatest(scores: Tensor) -> Tensor:
    """``[P]``, the maximum of each row; -inf where there are no columns."""
    return scores.amax(1) if scores.shape[1] else scores.new_full((len(scores),), -torch.inf)
