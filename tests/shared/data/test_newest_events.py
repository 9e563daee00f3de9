from __future__ import annotations

from recascade.data.newest_events import newest_events


def test_the_newest_events_of_every_user_oldest_first(encoded_split) -> None:
    data = encoded_split([[3, 1, 2], [], [0]], items=5, test=[[4], [1], [2]], times=[[10, 20, 30], [], [40]])
    found = newest_events(data, 2)
    assert found.columns == ["user_id", "items", "timestamps"]
    assert found.rows() == [("user-0", [1, 2], [20, 30]), ("user-1", None, None), ("user-2", [0], [40])]
