"""Errors that a user can mend.

Every message is one or two plain sentences: what was wrong, where (file, column, row, key), and what to do. The command
line prints the message alone and exits with status 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RecascadeError(Exception):
    """Base of every error whose message is meant for the user."""


class DataError(RecascadeError):
    """The data are not what the schema, a split or a filter needs."""


class ConfigurationError(RecascadeError):
    """A name, key or value of a configuration is unknown or impossible."""


class TrainingError(RecascadeError):
    """Training cannot go on (a loss that is not a number, a checkpoint of another run)."""


class MissingDependencyError(RecascadeError):
    """An optional package is needed; the message names the command that installs it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to end a sentence with: the nearest known name, or all of them when none is near.

    >>> did_you_mean("sasrek", ["sasrec", "hstu"])
    " Did you mean 'sasrec'?"
    >>> did_you_mean("x", ["b", "a"])
    ' Known: a, b.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(names)}." if names else ""
