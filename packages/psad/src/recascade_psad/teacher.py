"""The teacher: a pointer generator that fills a list block by block (paper: semi-autoregressive; form inferred).

Its two devices are those of the Semi-Autoregressive Transformer (Wang, Zhang and Chen, EMNLP 2018): the relaxed causal
mask, and long-distance prediction, by which slot j reads what stands at slot j - K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from recascade.nn.list_encoder import ListEncoder
from recascade_psad.blocks import free_before_block, relaxed_causal_mask, valid_slots
from recascade_psad.commit import commit
from recascade_psad.config import PSADConfig
from recascade_psad.positions import PositionEncoding
from recascade_psad.slot_decoder import KeysValues, Pool, SlotDecoderBlock
from recascade_psad.user_profile_network import UserView


@dataclass(frozen=True)
class Generated:
    """Lists as the teacher wrote them.

    Attributes:
        order: int64 ``[B, m]``, the candidate at each slot, all distinct; behind a list's last real candidate slot j
            holds place j, which is padding.
        logits: float ``[B, m, n]``, of each slot when its block was written; -inf for padding and for candidates of
            earlier blocks.
    """

    order: Tensor
    logits: Tensor


class Teacher(nn.Module):
    """``p(Y) = Π_blocks Π_slots p(Y_j | earlier blocks)``: K = 1 is autoregressive, one block for all is not at all.

    Args:
        config: sizes, block and rule of commitment.
        places: most candidates of a list.
    """

    def __init__(self, config: PSADConfig, places: int) -> None:
        super().__init__()
        self.block = config.teacher.block
        self.rule = config.teacher.commit
        shape = (config.dimension, config.heads, config.hidden, config.dropout)
        self.encoder = ListEncoder(
            config.teacher.encoder_blocks, config.dimension, config.heads, config.hidden, config.dropout
        )
        self.decoder = nn.ModuleList(SlotDecoderBlock(*shape) for _ in range(config.teacher.decoder_blocks))
        self.slots = PositionEncoding(places, config.dimension, adaptive=config.profile.position)
        self.beginning = nn.Parameter(torch.randn(config.dimension) * config.dimension**-0.5)
        self.slot_norm = nn.LayerNorm(config.dimension)
        self.pointer = nn.Linear(config.dimension, config.dimension, bias=False)

    def block_size(self, slots: int) -> int:
        """K for lists of m slots."""
        return min(self.block, slots) or slots

    def encode(self, view: UserView) -> Tensor:
        """``[B, n, d]``: z, the candidates knowing each other; zeros in padding."""
        encoded: Tensor = self.encoder(view.candidates, view.mask)
        return encoded.masked_fill(~view.mask[..., None], 0.0)

    def slot_encoding(self, intent: Tensor, count: int) -> Tensor:
        """``[B, m, d]``: p̃ of the first ``count`` slots for users of intent ``[B, d]``."""
        encoding: Tensor = self.slots(intent, torch.arange(count, device=intent.device))
        return encoding

    def forward(self, encoded: Tensor, mask: Tensor, slot_encoding: Tensor, prefix: Tensor) -> Tensor:
        """Logits of all slots in one pass, each block after the given earlier ones: float ``[B, m, n]``.

        Args:
            encoded: ``[B, n, d]`` of ``encode``.
            mask: bool ``[B, n]``.
            slot_encoding: ``[B, m, d]``.
            prefix: int64 ``[B, m]``, the candidate at each slot; those of its own and later blocks change nothing at
                a slot.
        """
        slots = prefix.shape[1]
        size = self.block_size(slots)
        visible = relaxed_causal_mask(slots, size, mask.device) & valid_slots(mask, slots)[:, None]
        stream = self._inputs(encoded, slot_encoding, prefix, range(slots), size)
        for block, pool in zip(self.decoder, self._pools(encoded, mask), strict=True):
            stream, _ = block(stream, visible, pool)
        return self._logits(stream, encoded, free_before_block(prefix, mask, size))

    def generate(self, encoded: Tensor, mask: Tensor, slot_encoding: Tensor, *, cached: bool = True) -> Generated:
        """Write lists, ``ceil(m / K)`` passes of the decoder.

        Args:
            encoded: ``[B, n, d]`` of ``encode``.
            mask: bool ``[B, n]``.
            slot_encoding: ``[B, m, d]``; its m says how many slots are filled, at most n.
            cached: keep keys and values of earlier blocks, which later ones do not change; off computes them anew.
        """
        slots = slot_encoding.shape[1]
        size = self.block_size(slots)
        valid = valid_slots(mask, slots)
        pools = self._pools(encoded, mask)
        caches: list[KeysValues | None] = [None] * len(pools)
        order = torch.arange(slots, device=mask.device).repeat(len(mask), 1)
        free = mask.clone()
        written = []
        for start in range(0, slots, size):
            stop = min(start + size, slots)
            first = start if cached else 0
            visible = relaxed_causal_mask(stop, size, mask.device)[first:] & valid[:, None, :stop]
            stream = self._inputs(encoded, slot_encoding, order, range(first, stop), size)
            for number, (block, pool) in enumerate(zip(self.decoder, pools, strict=True)):
                stream, keys_values = block(stream, visible, pool, caches[number])
                caches[number] = keys_values if cached else None
            logits = self._logits(stream[:, start - first :], encoded, free[:, None])
            chosen = commit(logits, free, self.rule)
            order[:, start:stop] = torch.where(chosen >= 0, chosen, order[:, start:stop])
            # Out of place: the logits of this block still hold the mask as it was.
            free = free.scatter(1, order[:, start:stop], False)
            written.append(logits)
        return Generated(order, torch.cat(written, 1))

    def _pools(self, encoded: Tensor, mask: Tensor) -> list[Pool]:
        return [cast(SlotDecoderBlock, block).pool(encoded, mask) for block in self.decoder]

    def _inputs(self, encoded: Tensor, slot_encoding: Tensor, order: Tensor, slots: range, size: int) -> Tensor:
        """``[B, q, d]``: slot j reads the candidate of slot j - K, or the beginning, and its own place."""
        beginnings = max(0, min(size, slots.stop) - slots.start)
        read = order[:, max(slots.start - size, 0) : slots.stop - size] if slots.stop > size else order[:, :0]
        earlier = encoded.gather(1, read[..., None].expand(-1, -1, encoded.shape[2]))
        start = self.beginning.expand(len(encoded), beginnings, -1)
        return torch.cat([start, earlier], 1) + slot_encoding[:, slots.start : slots.stop]

    def _logits(self, stream: Tensor, encoded: Tensor, free: Tensor) -> Tensor:
        """``(W h_j) · z_i / √d``, -inf where the candidate cannot be had."""
        logits: Tensor = self.pointer(self.slot_norm(stream)) @ encoded.transpose(1, 2) * encoded.shape[2] ** -0.5
        return logits.masked_fill(~free, -torch.inf)
