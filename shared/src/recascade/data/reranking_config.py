"""How candidate lists come about. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_within


@dataclass
class ListsConfig:
    """Settings of the lists that re-rankers get; overridden on the command line as ``lists.candidates=10``.

    Attributes:
        candidates: most candidates of a list, the best of the earlier stage; 30, the longest list of the public
            re-ranking sets (PRM Public).
        history: most events of a user that are read, the latest; 50 as MIR.
        seed: of every draw.
        initial: for a log of events, the retrieval method whose lists are re-ranked; any registered one.
        window: for a log of events, how many of a user's next events are one request's outcome. Under
            ``split.ties=group`` a request is a group (a basket, a day) instead.
        exclude_seen: for a log of events, leave what a user had before out of the list; right where nobody has an item
            twice, wrong for purchases that repeat.
        validation_share: for a log of events, share of the requests before the test part that validate: the latest
            under ``split.protocol=temporal``, those of a random share of the users otherwise.
        most_lists: for a log of events, at most this many requests of each part (a seeded sample), because each costs
            one retrieval; 0 for all.
        clicked_only: leave out lists without any positive label. They teach nothing, and no order of them is better
            than another.
        test_fold: for judged lists, the fold to measure on; -1 for each fold in turn.
        request: for impressions, columns that say which belong to one request.
        gap: for impressions, seconds without an impression that end a request (LibRerank's preparation: 300).
        label: for impressions, the column that is positive where the item was clicked.
        place: for impressions, the column that orders a request's items; empty for their time.
    """

    candidates: int = 30
    history: int = 50
    seed: int = 0
    initial: str = "item-knn"
    window: int = 10
    exclude_seen: bool = False
    validation_share: float = 0.2
    most_lists: int = 20_000
    clicked_only: bool = True
    test_fold: int = -1
    request: list[str] = field(default_factory=lambda: ["request_id"])
    gap: int = 300
    label: str = "click"
    place: str = ""

    def check(self) -> None:
        """Refuse values that leave nothing to re-rank.

        Raises:
            ConfigurationError: naming the key, its value and what it may be.
        """
        check_at_least("lists.candidates", self.candidates, 2)
        for name in ("history", "window"):
            check_at_least(f"lists.{name}", getattr(self, name), 1)
        for name in ("most_lists", "gap"):
            check_at_least(f"lists.{name}", getattr(self, name), 0)
        check_within("lists.validation_share", self.validation_share, 0, 0.9)
