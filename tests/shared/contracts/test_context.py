"""Requests packed without padding: taking the newest events, and some of the requests."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade.contracts.context import Context

Histories = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def packed(histories: list[list[int]]) -> Context:
    items = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    lengths = torch.tensor([len(history) for history in histories], dtype=torch.int64)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    users = torch.arange(len(histories))
    return Context(users, items, items * 10, offsets, users + 100)


def unpacked(context: Context) -> list[list[int]]:
    return [context.items[context.offsets[b] : context.offsets[b + 1]].tolist() for b in range(context.batch_size)]


@given(histories=Histories, count=st.integers(1, 6))
def test_last_keeps_the_newest_events_of_each_request(histories: list[list[int]], count: int) -> None:
    context = packed(histories).last(count)
    assert unpacked(context) == [history[-count:] for history in histories]
    assert torch.equal(context.timestamps, context.items * 10)


@given(histories=Histories, data=st.data())
def test_between_takes_whole_requests(histories: list[list[int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(histories)))
    stop = data.draw(st.integers(start, len(histories)))
    context = packed(histories).between(start, stop)
    assert unpacked(context) == histories[start:stop]
    assert context.users.tolist() == list(range(start, stop))
    assert context.now is not None and context.now.tolist() == list(range(start + 100, stop + 100))
    assert context.rows.tolist() == [b for b, history in enumerate(histories[start:stop]) for _ in history]


@given(Histories, st.data())
def test_taken_requests_keep_their_own_events_in_order(histories: list[list[int]], data: st.DataObject) -> None:
    places = st.integers(0, len(histories) - 1) if histories else st.nothing()
    rows = data.draw(st.lists(places, max_size=8)) if histories else []
    taken = packed(histories).take(torch.tensor(rows, dtype=torch.int64))
    assert unpacked(taken) == [histories[row] for row in rows]
    assert taken.users.tolist() == rows
    assert taken.now is not None
    assert taken.now.tolist() == [row + 100 for row in rows]
