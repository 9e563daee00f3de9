"""What a configuration says when one of its values cannot work. Importable without torch."""

from __future__ import annotations

from collections.abc import Sequence

from recascade.errors import ConfigurationError, did_you_mean


def check_choice(key: str, value: str, known: Sequence[str]) -> None:
    """Refuse a name that is not one of ``known``.

    Raises:
        ConfigurationError: naming the key, its value and the nearest known name.
    """
    if value not in known:
        raise ConfigurationError(f"{key} is {value!r}.{did_you_mean(value, known)}")


def check_at_least(key: str, value: float, least: float) -> None:
    """Refuse a number below ``least``, and one that is not a number.

    Raises:
        ConfigurationError: naming the key, its value and the bound.
    """
    if not value >= least:
        raise ConfigurationError(f"{key} is {value}; it must be at least {least}.")


def check_within(key: str, value: float, above: float, most: float) -> None:
    """Refuse a number outside ``(above, most]``.

    Raises:
        ConfigurationError: naming the key, its value and both bounds.
    """
    if not above < value <= most:
        raise ConfigurationError(f"{key} is {value}; it must be above {above} and at most {most}.")
