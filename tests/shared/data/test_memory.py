from __future__ import annotations

import pytest

from recascade.data.memory import BYTES_PER_EVENT, SHARE, events_at_a_time, memory_bytes
from recascade.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "amount"), [("4096", 4096), ("512MB", 512_000_000), ("1.5 gb", 1_500_000_000), ("2TB", 2 * 10**12)]
)
def test_an_amount_of_memory_is_read(text: str, amount: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECASCADE_MEMORY", text)
    assert memory_bytes() == amount
    assert events_at_a_time() == int(amount * SHARE / BYTES_PER_EVENT)


def test_without_a_setting_the_system_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECASCADE_MEMORY", raising=False)
    assert 10**6 < memory_bytes() < 10**15


def test_at_least_one_event_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECASCADE_MEMORY", "0")
    assert events_at_a_time() == 1


@pytest.mark.parametrize("text", ["much", "4 G", "-1", "1e9"])
def test_what_is_no_amount_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECASCADE_MEMORY", text)
    with pytest.raises(ConfigurationError, match=f"RECASCADE_MEMORY is '{text}'"):
        memory_bytes()
