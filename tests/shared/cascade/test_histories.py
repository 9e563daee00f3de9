"""What a service knows of its users."""

from __future__ import annotations

from collections.abc import Callable

from recascade.cascade.histories import Histories
from recascade.data.encoded import EncodedSplit


def test_events_without_a_time_are_the_newest(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1]], items=9, times=[[10, 20]])
    (user,) = data.users.ids.to_list()
    histories = Histories(data, most_events=2, most_users=2)
    histories.add(user, [2], None)
    histories.add(user, [3], 30)
    histories.add(user, [4], None)
    context = histories.context(user, None)
    assert context.items.tolist() == [0, 1, 3, 4], "the oldest of the new events is dropped first"
    assert context.timestamps.tolist() == [10, 20, 30, 30]
    histories.add("unknown", [5], None)
    assert histories.context("unknown", None).timestamps.tolist() == [0]
    histories.add(user, [6], 25)
    assert histories.context(user, None).items.tolist() == [0, 1, 3, 4], "a late report of an older event is older"
