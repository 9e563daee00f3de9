"""What a split is made by. Importable without Polars or torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, get_type_hints

from recascade.errors import ConfigurationError, did_you_mean

PROTOCOLS = ("leave-one-out", "temporal", "ratio", "last-basket", "given")
TIES = ("shuffle", "group", "file")
DEDUPLICATE = ("none", "exact", "first", "last")


@dataclass
class SplitConfig:
    """Which events are held out, and what is settled before that. The order of steps is the order of the fields.

    Attributes:
        since: drop events before this time; ``2017-06-01``, ``2017-06-01T12:00`` (UTC) or seconds since 1970; empty:
            no limit.
        until: drop events at this time or later.
        deduplicate: ``none``; ``exact`` keeps one of the events equal in user, item and known timestamp; ``first`` or
            ``last`` keeps each user's first or last event with an item.
        user_min_events: drop users with fewer events, repeatedly together with the next; 0 keeps all.
        item_min_events: drop items with fewer events. 5 and 5 give the usual 5-core.
        ties: events of one user with equal timestamps have no order. ``shuffle`` gives them a seeded random one;
            ``group`` keeps them together as one set (a basket, a day); ``file`` trusts the order of the file, as
            publications do.
        seed: of ``shuffle``.
        protocol: ``leave-one-out`` (each user's last event is the test target, the last but one the validation target);
            ``temporal`` (everything from a moment on is held out); ``ratio`` (the last part of each user's events);
            ``last-basket`` (the events of each user's last timestamp are a set of test targets, those of the last but
            one of validation targets). Under ``ties=group`` leave-one-out holds out a whole group too. ``given`` takes
            the column ``split_part`` of the interactions (``train``, ``history``: known but not trained on,
            ``validation``, ``test``) and the order of the file; data with this column are split in no other way.
        validation_fraction: for ``ratio``, share of each user's events; for ``temporal``, share of all events.
        test_fraction: likewise.
        validation_time: for ``temporal``, the first moment of validation; empty: from ``validation_fraction``.
        test_time: for ``temporal``, the first moment of test; empty: from ``test_fraction``.
        targets: for ``temporal`` and ``ratio``, ``first`` (a user's first held-out event, or group, is the target) or
            ``all``.
        minimum_history: a user needs this many training events to be evaluated. Under the protocols that hold out
            each user's end, a user too short for it keeps all events in training.
        catalogue: items that can be recommended: ``training`` (those of the training events) or ``file`` (also all of
            items.parquet).
        cold_items: a target outside the catalogue counts as a ``miss``, or is taken out of the targets (``drop``).
        target_domain: of the held-out events only those of this domain (column ``domain`` of the interactions) are
            targets, only its items are ranked, and ``minimum_history`` counts training events of this domain. The
            events of the other domains stay in the histories. Empty: all domains.
    """

    since: str = ""
    until: str = ""
    deduplicate: str = "none"
    user_min_events: int = 0
    item_min_events: int = 0
    ties: str = "shuffle"
    seed: int = 0
    protocol: str = "leave-one-out"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    validation_time: str = ""
    test_time: str = ""
    targets: str = "first"
    minimum_history: int = 1
    catalogue: str = "training"
    cold_items: str = "miss"
    target_domain: str = ""

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigurationError: it names the key, the value and what is possible.
        """
        for key, known in (
            ("protocol", PROTOCOLS),
            ("ties", TIES),
            ("deduplicate", DEDUPLICATE),
            ("targets", ("first", "all")),
            ("catalogue", ("training", "file")),
            ("cold_items", ("miss", "drop")),
        ):
            value = getattr(self, key)
            if value not in known:
                raise ConfigurationError(f"split.{key}={value} is not possible.{did_you_mean(str(value), known)}")
        for key in ("user_min_events", "item_min_events", "minimum_history"):
            if getattr(self, key) < 0:
                raise ConfigurationError(f"split.{key}={getattr(self, key)} is negative; 0 switches it off.")
        for key in ("since", "until", "validation_time", "test_time"):
            parse_time(getattr(self, key), f"split.{key}")
        validation, test = self.validation_fraction, self.test_fraction
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            raise ConfigurationError(
                f"split.validation_fraction={validation} and split.test_fraction={test} leave nothing to train on or "
                "to measure; both must be above 0 and their sum below 1."
            )

    @classmethod
    def from_words(cls, words: Mapping[str, str]) -> SplitConfig:
        """The defaults with some keys set from text, as typed on a command line; ``split.`` before a key is allowed.

        Raises:
            ConfigurationError: an unknown key (with the nearest one), a value of the wrong type, or an impossible one.
        """
        types: dict[str, type[str] | type[int] | type[float]] = get_type_hints(cls)
        values: dict[str, Any] = {}
        for word, text in words.items():
            key = word.removeprefix("split.")
            if key not in types:
                raise ConfigurationError(f"There is no key 'split.{key}'.{did_you_mean(key, types)}")
            if key in values:
                raise ConfigurationError(f"The key 'split.{key}' is given twice; leave one of them out.")
            try:
                values[key] = types[key](text)
            except ValueError as error:
                kind = "a whole number" if types[key] is int else "a number"
                raise ConfigurationError(f"split.{key} must be {kind}, but {text!r} was given.") from error
        config = cls(**values)
        config.check()
        return config

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that are on, by key: what decides which events and users take part."""
        keys = ("since", "until", "deduplicate", "user_min_events", "item_min_events", "minimum_history")
        off = SplitConfig(minimum_history=0)
        return {key: value for key in keys if (value := getattr(self, key)) != getattr(off, key)}

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def parse_time(text: str, key: str) -> int | None:
    """Seconds since 1970 of an ISO date or time (UTC unless it names a zone) or of a number of seconds; None for ''.

    >>> parse_time("1970-01-02", "since")
    86400
    """
    value = str(text).strip()
    if not value:
        return None
    if value.lstrip("-").isdigit():
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ConfigurationError(
            f"{key}={value} is no time; write a date (2017-06-01), a time (2017-06-01T12:00) or seconds since 1970."
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
