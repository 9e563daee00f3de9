"""The layout of a packed batch: where the events of each sequence stand, and how to pad them where it must be.

Linear layers, norms and losses work on packed events ``[T, ...]``. Only attention needs rectangles; it gets them in a
few groups of similar length, padded on the right, so that a long sequence does not pad the short ones.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

# Splitting a batch costs a few operator calls more per group; below this many saved (query, key) cells it does not pay.
# Our choice, measured on one CPU core.
_CELLS_WORTH_A_GROUP = 16_384
# Row softmax falls back to scalar code below a vector register's width.
_LEAST_WIDTH = 16


class LengthGroup(NamedTuple):
    """One rectangle of the padded layout: slots ``start`` to ``start + sequences * width``."""

    start: int
    sequences: int
    width: int


@dataclass(frozen=True)
class PackedLayout:
    """Index arithmetic of B packed sequences with T events, computed once per batch.

    The padded layout has S slots: sequences ordered by falling length, cut into rectangles (``groups``), every sequence
    padded on the right to its group's width. Empty sequences have no slots (but see ``rectangle``).

    Attributes:
        offsets: int64 ``[B + 1]``; sequence b owns events ``offsets[b]`` to ``offsets[b + 1]``.
        lengths: int64 ``[B]``.
        rows: int64 ``[T]``, the sequence of each event.
        positions: int64 ``[T]``, 0 for the oldest event of each sequence.
        longest: the greatest length, 0 for a batch without events (or its bound, see ``rectangle``).
        groups: the rectangles, widest first.
        order: int64 ``[B]``, sequences by falling length, as the padded layout holds them.
        slots: int64 ``[S]``, the event in each slot; a pad repeats the last event of its sequence.
        places: int64 ``[T]``, the slot of each event.
    """

    offsets: Tensor
    lengths: Tensor
    rows: Tensor
    positions: Tensor
    longest: int
    groups: tuple[LengthGroup, ...]
    order: Tensor
    slots: Tensor
    places: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> PackedLayout:
        """The layout of sequences with these offsets (int64 ``[B + 1]``, ascending from 0)."""
        device = offsets.device
        lengths = offsets.diff()
        events = int(offsets[-1])
        sorted_lengths, order = torch.sort(lengths, descending=True, stable=True)
        lengths_list: list[int] = sorted_lengths.tolist()
        groups = _plan_groups(lengths_list)
        rows = torch.repeat_interleave(torch.arange(len(lengths_list), device=device), lengths, output_size=events)
        positions = torch.arange(events, device=device) - offsets.index_select(0, rows)

        widths = torch.tensor([group.width for group in groups], dtype=torch.int64, device=device)
        counts = torch.tensor([group.sequences for group in groups], dtype=torch.int64, device=device)
        occupied = sum(group.sequences for group in groups)
        slot_count = sum(group.sequences * group.width for group in groups)
        width_of = torch.repeat_interleave(widths, counts, output_size=occupied)
        starts = width_of.cumsum(0) - width_of
        in_order = order[:occupied]
        slot_rows = torch.repeat_interleave(torch.arange(occupied, device=device), width_of, output_size=slot_count)
        column = torch.arange(slot_count, device=device) - starts.index_select(0, slot_rows)
        last = (sorted_lengths[:occupied] - 1).index_select(0, slot_rows)
        slots = offsets.index_select(0, in_order).index_select(0, slot_rows) + torch.minimum(column, last)
        start_of = torch.zeros_like(lengths).index_copy_(0, in_order, starts)
        places = start_of.index_select(0, rows) + positions
        longest = lengths_list[0] if lengths_list else 0
        return cls(offsets, lengths, rows, positions, longest, groups, order, slots, places)

    @classmethod
    def bounded(cls, offsets: Tensor, events: int, width: int) -> PackedLayout:
        """The layout of sequences of at most ``width`` events that suits where it is used.

        On a CPU, where looking at lengths costs nothing, this is ``of``. On an accelerator, which would make the host
        wait, and while ``torch.compile`` traces, which would compile anew for every length, it is ``rectangle``.

        Args:
            offsets: int64 ``[B + 1]``, ascending from 0.
            events: T, at least 1.
            width: no sequence is longer; on an accelerator nothing checks that.
        """
        if offsets.device.type == "cpu" and not torch.compiler.is_compiling():
            return cls.of(offsets)
        return cls.rectangle(offsets, events, width)

    @classmethod
    def rectangle(cls, offsets: Tensor, events: int, width: int) -> PackedLayout:
        """One rectangle for all B sequences, empty ones included, in their own order; see ``bounded`` for arguments.

        Every shape follows from the shapes of the arguments and from ``width``, which ``longest`` repeats.
        """
        sequences, device = len(offsets) - 1, offsets.device
        lengths = offsets.diff()
        order = torch.arange(sequences, device=device)
        rows = torch.repeat_interleave(order, lengths, output_size=events)
        positions = torch.arange(events, device=device) - offsets.index_select(0, rows)
        column = torch.minimum(torch.arange(width, device=device), (lengths - 1).clamp(min=0)[:, None])
        # An empty sequence at the end starts behind the last event.
        slots = (offsets[:-1, None] + column).clamp(max=events - 1).flatten()
        groups = (LengthGroup(0, sequences, width),)
        return cls(offsets, lengths, rows, positions, width, groups, order, slots, rows * width + positions)

    @property
    def width(self) -> int:
        """Width of the widest rectangle, 0 where there is none; never less than ``longest``."""
        return self.groups[0].width if self.groups else 0

    @property
    def occupied(self) -> Tensor:
        """int64 ``[N]``, the sequences that have events, in the order of the padded layout."""
        return self.order[: sum(group.sequences for group in self.groups)]

    @property
    def newest(self) -> Tensor:
        """int64 ``[N]``, the newest event of each occupied sequence."""
        return self.offsets.index_select(0, self.occupied + 1) - 1

    def pad(self, packed: Tensor) -> Tensor:
        """``[T, ...]`` events to ``[S, ...]`` slots. Pads hold copies that carry no gradient."""
        return cast(Tensor, _Pad.apply(packed, self.slots, self.places))  # type: ignore[no-untyped-call]

    def unpad(self, padded: Tensor) -> Tensor:
        """``[S, ...]`` slots to ``[T, ...]`` events; pads are dropped."""
        return cast(Tensor, _Unpad.apply(padded, self.places))  # type: ignore[no-untyped-call]

    def rectangles(self, padded: Tensor) -> list[Tensor]:
        """Views of ``[S, ...]`` slots as one ``[sequences, width, ...]`` tensor per group."""
        rest = padded.shape[1:]
        return [
            padded[group.start : group.start + group.sequences * group.width].view(group.sequences, group.width, *rest)
            for group in self.groups
        ]


def _plan_groups(falling_lengths: list[int]) -> tuple[LengthGroup, ...]:
    """Cut lengths (descending) into rectangles, halving the width wherever that saves enough cells."""
    rising = falling_lengths[::-1]
    occupied = len(rising) - bisect_right(rising, 0)
    groups: list[LengthGroup] = []
    first, slot = 0, 0
    while first < occupied:
        width = narrower = max(falling_lengths[first], _LEAST_WIDTH)
        end = occupied
        while narrower > _LEAST_WIDTH:
            narrower = max((narrower + 1) // 2, _LEAST_WIDTH)
            longer = len(rising) - bisect_right(rising, narrower)
            if (occupied - longer) * (width * width - narrower * narrower) >= _CELLS_WORTH_A_GROUP:
                end = longer
                break
        groups.append(LengthGroup(slot, end - first, width))
        slot += (end - first) * width
        first = end
    return tuple(groups)


class _Pad(torch.autograd.Function):
    """Gather in both directions: index_select's own gradient is a scatter-add, several times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return packed.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return gradients[0].index_select(0, places), None, None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.slots = padded.shape[0]
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        gradient = gradients[0]
        padded = gradient.new_zeros(ctx.slots, *gradient.shape[1:])
        return padded.index_copy_(0, places, gradient), None
