from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.nn.packed import PackedLayout

length_lists = st.lists(st.integers(0, 70), max_size=12)


def layout_of(lengths: list[int]) -> PackedLayout:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    offsets[1:] = torch.tensor(lengths, dtype=torch.int64).cumsum(0)
    return PackedLayout.of(offsets)


@settings(max_examples=60)
@given(length_lists)
def test_rows_and_positions_describe_the_sequences(lengths: list[int]) -> None:
    layout = layout_of(lengths)
    assert layout.rows.tolist() == [row for row, length in enumerate(lengths) for _ in range(length)]
    assert layout.positions.tolist() == [position for length in lengths for position in range(length)]
    assert layout.longest == max(lengths, default=0)


@settings(max_examples=60)
@given(length_lists)
def test_padding_holds_every_event_once_and_unpads_to_itself(lengths: list[int]) -> None:
    layout = layout_of(lengths)
    events = torch.arange(sum(lengths), dtype=torch.float32)[:, None]
    padded = layout.pad(events)
    assert torch.equal(layout.unpad(padded), events)
    assert layout.places.unique().numel() == sum(lengths)


@settings(max_examples=60)
@given(length_lists)
def test_rectangles_hold_whole_sequences_from_the_left(lengths: list[int]) -> None:
    layout = layout_of(lengths)
    numbered = torch.stack([layout.rows, layout.positions], dim=1).float()
    found = []
    for rectangle in layout.rectangles(layout.pad(numbered)):
        for sequence in rectangle:
            row = int(sequence[0, 0])
            found.append(row)
            assert sequence[: lengths[row], 0].tolist() == [row] * lengths[row]
            assert sequence[: lengths[row], 1].tolist() == list(range(lengths[row]))
    assert sorted(found) == [row for row, length in enumerate(lengths) if length]


def test_one_long_sequence_does_not_widen_the_short_ones() -> None:
    layout = layout_of([200] + [5] * 100)
    assert layout.slots.numel() < 200 + 100 * 40
    assert len(layout.groups) == 2


def test_gradients_of_padding_are_those_of_indexing() -> None:
    layout = layout_of([3, 0, 5, 1])
    events = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(9, 2, dtype=torch.float64)
    (layout.unpad(layout.pad(events).square()) * weights).sum().backward()
    torch.testing.assert_close(events.grad, 2 * events.detach() * weights)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any), spare=st.integers(0, 3))
def test_a_rectangle_holds_the_same_events_without_looking_at_lengths(lengths: list[int], spare: int) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events, width = sum(lengths), max(lengths) + spare
    layout, grouped = PackedLayout.rectangle(offsets, events, width), PackedLayout.of(offsets)
    assert torch.equal(layout.rows, grouped.rows)
    assert torch.equal(layout.positions, grouped.positions)
    values = torch.arange(events)
    padded = layout.pad(values)
    (rectangle,) = layout.rectangles(padded)
    assert rectangle.shape == (len(lengths), width)
    assert torch.equal(rectangle[layout.rows, layout.positions], values)
    assert torch.equal(layout.unpad(padded), values)
