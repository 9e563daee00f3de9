"""What a gateway remembers of other machines' memories."""

from __future__ import annotations

from recascade_relaygr.cluster.held_prefixes import HeldPrefixes
from recascade_relaygr.relay.requests import PrefixKey


def test_it_knows_what_answers_told_until_copies_go() -> None:
    held, key = HeldPrefixes(10.0), PrefixKey("1", "a user")
    assert held.held("x", key, b"f", 0.0) == ""
    held.learn("x", key, b"f", "relay", 0.0)
    assert held.held("x", key, b"f", 9.0) == "copy"
    assert held.held("x", key, b"g", 9.0) == ""
    assert held.held("y", key, b"f", 9.0) == ""
    assert held.held("x", key, b"f", 10.0) == ""
    held.learn("x", key, b"f", "full", 1.0)
    assert held.held("x", key, b"f", 2.0) == ""


def test_it_forgets_the_oldest_when_it_knows_too_many() -> None:
    held = HeldPrefixes(10.0, most=3)
    for user in "abcd":
        held.learn("x", PrefixKey("1", user), b"f", "relay", 0.0)
    assert [held.held("x", PrefixKey("1", user), b"f", 1.0) for user in "abcd"] == ["", "copy", "copy", "copy"]
