"""The answers that go on: their prompts, their log-probabilities code by code, and nothing of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams, Generator


@dataclass(frozen=True)
class ActorRows:
    """Kept answers of R requests, at most n of each; all others have been physically removed.

    Attributes:
        context: the R requests.
        codes: int64 ``[R, n, L]``; places without an answer repeat another one of the request.
        mask: bool ``[R, n]``, the answers that are there.
        advantages: float32 ``[R, n]``, 0 where there is none.
        repaired: bool ``[R]``, whether an anchor is among the answers.
    """

    context: Context
    codes: Tensor
    mask: Tensor
    advantages: Tensor
    repaired: Tensor

    @property
    def count(self) -> Tensor:
        """Answers that are there: scalar int64."""
        return self.mask.sum()

    @property
    def tokens(self) -> int:
        """Events and codes that the actor reads, those of places without an answer included."""
        return self.context.items.numel() + self.codes.numel()


def gather_rows(
    context: Context, codes: Tensor, kept: Tensor, advantages: Tensor, repaired: Tensor, *, share_context: bool
) -> ActorRows:
    """The kept answers alone; requests without any are left out.

    Args:
        context: P requests.
        codes: int64 ``[P, G, L]``, anchors in their places.
        kept: bool ``[P, G]``.
        advantages: float ``[P, G]``.
        repaired: bool ``[P]``.
        share_context: one request for all its answers; off, one request per answer.
    """
    if not share_context:
        rows, places = kept.nonzero().unbind(1)
        chosen = codes[rows, places][:, None]
        mask = torch.ones_like(rows, dtype=torch.bool)[:, None]
        return ActorRows(
            context.take(rows), chosen, mask, advantages[rows, places][:, None], repaired.index_select(0, rows)
        )
    rows = kept.any(1).nonzero()[:, 0]
    width = int(kept.sum(1).max()) if len(rows) else 0
    # Kept answers first, in their order.
    places = torch.argsort(~kept[rows], dim=1, stable=True)[:, :width]
    mask = kept[rows].gather(1, places)
    chosen = codes[rows].gather(1, places[..., None].expand(-1, -1, codes.shape[2]))
    values = advantages[rows].gather(1, places) * mask
    return ActorRows(context.take(rows), chosen, mask, values, repaired[rows])


def code_log_probs(generator: Generator[Any], state: Any, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each code of whole ids, normalised over all codes of its level, and the entropy it had.

    Args:
        generator: whose ``step`` is called once per level, so that answers share what their common request costs.
        state: of R requests.
        codes: int64 ``[R, n, L]``.

    Returns:
        float ``[R, n, L]``, and the same without gradient, in nats.
    """
    beams = Beams.start(state.batch_size, state.device)
    requests, width, levels = codes.shape
    chosen, entropies = [], []
    for level in range(levels):
        log_probs = generator.step(state, beams)
        entropy = -(log_probs.detach().exp() * log_probs.detach()).sum(-1)
        entropies.append(entropy.expand(-1, width))
        chosen.append(log_probs.expand(-1, width, -1).gather(2, codes[..., level, None])[..., 0])
        parents = torch.arange(width, device=codes.device) if level else torch.zeros_like(codes[0, :, 0])
        beams = Beams(codes[..., : level + 1], parents.expand(requests, -1))
    return torch.stack(chosen, dim=2), torch.stack(entropies, dim=2)


def answer_log_probs(generator: Generator[Any], context: Context, codes: Tensor) -> tuple[Tensor, Tensor]:
    """``code_log_probs`` of answers (int64 ``[R, n, L]``) to R requests."""
    return code_log_probs(generator, generator.encode(context), codes)
