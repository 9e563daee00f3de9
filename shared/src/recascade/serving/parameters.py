"""What a request says, checked: every mistake is a sentence for whoever sent it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recascade.errors import RecascadeError, did_you_mean


class RequestError(RecascadeError):
    """The request cannot be answered, and only its sender can mend it."""


class ForbiddenError(RequestError):
    """Whoever sent the request may not ask this."""


def check_names(values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse parameters that nobody reads.

    Raises:
        RequestError: naming the unknown parameter and the nearest known one.
    """
    names = set(known)
    for name in values:
        if name not in names:
            raise RequestError(f"There is no parameter {name!r}.{did_you_mean(name, names)}")


def text(values: Mapping[str, Any], name: str) -> str:
    """A text that must be there; a number is taken as its digits.

    Raises:
        RequestError: it is missing, empty or of another type.
    """
    if name not in values:
        raise RequestError(f"The parameter {name!r} is missing.")
    return _text(name, values[name])


def texts(values: Mapping[str, Any], name: str, most: int) -> list[str]:
    """A list of texts that must be there, of one to ``most`` of them.

    Raises:
        RequestError: it is missing, no list, empty, too long, or one of its values is not a text.
    """
    if name not in values:
        raise RequestError(f"The parameter {name!r} is missing.")
    found = values[name]
    if not isinstance(found, list) or not 1 <= len(found) <= most:
        raise RequestError(f"The parameter {name!r} must be a list of 1 to {most} texts.")
    return [_text(name, value) for value in found]


def whole_number(values: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number between two bounds (both included), or its default where the request does not say.

    Raises:
        RequestError: it is not a whole number or out of bounds.
    """
    found = values.get(name, default)
    try:
        number = int(found) if isinstance(found, str | int) and not isinstance(found, bool) else None
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise RequestError(f"The parameter {name!r} is {found!r}; it must be a whole number from {least} to {most}.")
    return number


def _text(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise RequestError(f"The parameter {name!r} must be a text that is not empty, but holds {value!r}.")
    return value
