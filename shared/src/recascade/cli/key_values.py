"""Words ``key=value``, as commands take them."""

from __future__ import annotations

from collections.abc import Sequence

from recascade.errors import ConfigurationError


def key_values(words: Sequence[str]) -> dict[str, str]:
    """The words as a mapping; values stay text.

    Raises:
        ConfigurationError: a word without ``=``, or a key given twice.
    """
    values = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise ConfigurationError(f"{word!r} is not a setting; write key=value.")
        if key in values:
            raise ConfigurationError(f"The key {key!r} is given twice; leave one of them out.")
        values[key] = value
    return values
