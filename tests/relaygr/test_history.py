"""Fingerprints of prefixes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recascade_relaygr.engine.history import fingerprint
from recascade_relaygr.run_folder import request_of

EVENT = st.tuples(st.integers(-1, 1 << 28), st.integers(-(1 << 33) + 1, (1 << 33) - 1))


def of(events: list[tuple[int, int]], prefix: int) -> bytes:
    return fingerprint(request_of([item for item, _ in events], [time for _, time in events]), prefix)


@given(st.lists(EVENT, min_size=1, max_size=20), st.data())
def test_it_changes_with_every_event_of_the_prefix_and_with_nothing_else(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    prefix = data.draw(st.integers(1, len(events)))
    place = data.draw(st.integers(0, len(events) - 1))
    other = data.draw(EVENT)
    changed = [*events[:place], other, *events[place + 1 :]]
    same = place >= prefix or other == events[place]
    assert (of(events, prefix) == of(changed, prefix)) == same
    assert (of(events, prefix) == of(events, len(events))) == (prefix == len(events))


def test_a_time_does_not_make_up_for_an_item() -> None:
    assert len({of([(item, time)], 1) for item in range(5) for time in (0, 1, 5, 1 << 32)}) == 20
