"""Which signals can be had under an engine that generates by itself."""

from __future__ import annotations

from recascade.errors import ConfigurationError
from recascade_recast.config import SignalConfig


def check_signal(signal: SignalConfig) -> None:
    """Refuse settings that an adapter would ignore: it inserts the first target, repairs without a memory of earlier
    batches, and sees answers before their log-probabilities.

    Raises:
        ConfigurationError: ``anchor``, ``adaptive`` or ``ties`` ask for more.
    """
    for name, asked, possible in (
        ("anchor=random", signal.anchor != "first", "first"),
        (f"adaptive={signal.adaptive:g}", signal.adaptive != 0, "0"),
        ("ties=log-prob", signal.ties == "log-prob", "first or random"),
    ):
        if asked:
            raise ConfigurationError(
                f"The signal's {name} is not possible under an engine; leave {name.split('=')[0]} at {possible}."
            )
