"""What turns a log into a stream of labelled events, and how the stream is read. Importable without Polars or torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recascade.contracts.checks import check_at_least, check_choice
from recascade.data.split_config import parse_time
from recascade.errors import ConfigurationError


@dataclass
class StreamConfig:
    """Labels, order and pace of an event stream. All defaults are our choice.

    Attributes:
        label: column that says how much the user liked the item; empty: every event is a positive.
        positive_from: the label is 1 from this value on, otherwise 0; null: above 0.
        negatives: for logs of positives only, impressions with label 0 sampled for each positive, at its second, among
            the items whose first event lies strictly before; 0 samples none. A positive of any other item is left out,
            so that both labels have the same candidates.
        negative_popularity: exponent of the number of events so far by which an item is drawn; 0 draws uniformly, 1 in
            proportion to the events.
        unknown_times: events without a timestamp are an ``error``, or left out and counted (``drop``).
        since: leave out events before this time; ``2017-06-01``, ``2017-06-01T12:00`` (UTC) or seconds since 1970;
            empty: no limit.
        until: leave out events at this time or later.
        seed: of the order of events inside one second and of the sampled impressions.
        batch: rows of the source per micro-batch; 256.
        label_delay: seconds from an event to the moment at which its label is known, where the source has no column
            ``label_time``.
        delay_batches: micro-batches a learner waits before it trains on an event; 0 trains on it at once.
        allowed_lateness: seconds that an event's timestamp may lie behind the latest one read before it.
        late: an event later than that is an ``error``, or left out and counted (``drop``).
    """

    label: str = ""
    positive_from: float | None = None
    negatives: int = 0
    negative_popularity: float = 0.0
    unknown_times: str = "error"
    since: str = ""
    until: str = ""
    seed: int = 0
    batch: int = 256
    label_delay: int = 0
    delay_batches: int = 0
    allowed_lateness: int = 0
    late: str = "error"

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigurationError: it names the key, the value and what is possible.
        """
        check_choice("stream.late", self.late, ("error", "drop"))
        check_choice("stream.unknown_times", self.unknown_times, ("error", "drop"))
        check_at_least("stream.batch", self.batch, 1)
        for key in ("negatives", "negative_popularity", "label_delay", "delay_batches", "allowed_lateness"):
            check_at_least(f"stream.{key}", getattr(self, key), 0)
        for key in ("since", "until"):
            parse_time(getattr(self, key), f"stream.{key}")
        if self.negatives and self.label:
            raise ConfigurationError(
                f"stream.negatives is {self.negatives} and stream.label is {self.label!r}; impressions are sampled "
                "only for logs of positives: leave one of the two out."
            )
        if self.positive_from is not None and not self.label:
            raise ConfigurationError(
                f"stream.positive_from is {self.positive_from} but stream.label is empty; name the column it is for."
            )

    def content(self) -> dict[str, Any]:
        """The keys that decide which rows a prepared stream holds and in which order, as a plain dictionary."""
        reading = ("batch", "label_delay", "delay_batches", "allowed_lateness", "late")
        return {key: value for key, value in asdict(self).items() if key not in reading}
