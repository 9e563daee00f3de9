"""The rules a table was measured under. Figures under different rules never share a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recascade.bench.report.formatting import grouped
from recascade.bench.report.record import RunRecord

SEEN_LEFT_OUT = "left out"
TIE_RULES = {
    "shuffle": "events of equal time in seeded random order",
    "group": "events of equal time are one set",
    "file": "events of equal time in file order, which may follow item ids",
}
COLD_RULES = {
    "miss": "targets that training never saw count as misses",
    "drop": "targets that training never saw are left out",
}
CATALOGUES = {
    "training": "the items of the training part",
    "file": "all items of the catalogue file",
}
FILTERS = {
    "user_min_events": "events per user ≥ {}",
    "item_min_events": "events per item ≥ {}",
    "minimum_history": "training events of a test user ≥ {}",
    "deduplicate": "duplicates: {}",
    "since": "events since {}",
    "until": "events until {}",
}


@dataclass(frozen=True)
class Rules:
    """Everything that must be equal for two figures to be comparable; each attribute as it is printed.

    Attributes:
        fingerprint: of the split: tie rule, filters, cold-item rule, catalogue, protocol and the held-out events.
        protocol: how the split was made, as ``leave-one-out``.
        ties: tie rule, as ``shuffle``.
        filters: what was left out of the log before splitting.
        cold_items: what happens to targets that training never saw.
        catalogue: which items could be recommended.
        seen_items: whether items of the user's own history were recommended.
        ranking: full ranking or a candidate set, and which users were evaluated.
    """

    fingerprint: str
    protocol: str
    ties: str
    filters: str
    cold_items: str
    catalogue: str
    seen_items: str
    ranking: str

    @property
    def title(self) -> str:
        """What tells the leaderboards of one data set apart at a glance."""
        seen = ", seen items left out" if self.seen_items == SEEN_LEFT_OUT else ""
        return f"{self.protocol}, ties {self.ties}{seen}"

    @property
    def sentence(self) -> str:
        """One line to stand under every table."""
        return f"Split {self.fingerprint} · ties: {self.ties} · {self.sentence_without_split}"

    @property
    def sentence_without_split(self) -> str:
        """The rules that splits with different ties can share."""
        return (
            f"{self.protocol} · filter: {self.filters} · cold items: {self.cold_items} · catalogue: {self.catalogue} · "
            f"seen items: {self.seen_items} · {self.ranking}"
        )

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """Name, value and explanation of each rule, for the head of a leaderboard."""
        return [
            ("Split", self.fingerprint, ""),
            ("Protocol", self.protocol, ""),
            ("Ties", self.ties, TIE_RULES.get(self.ties, "")),
            ("Filter", self.filters, ""),
            ("Cold items", self.cold_items, COLD_RULES.get(self.cold_items, "")),
            ("Catalogue", self.catalogue, CATALOGUES.get(self.catalogue, "")),
            ("Seen items", self.seen_items, ""),
            ("Ranking", self.ranking, ""),
        ]


def rules_of(run: RunRecord) -> Rules:
    """The rules of one run."""
    split = run.result["split"]
    evaluation = run.result.get("evaluation") or run.config["evaluation"]
    lists = split.get("lists")
    return Rules(
        fingerprint=split["fingerprint"],
        protocol=split["protocol"],
        ties=split["ties"],
        filters=describe_filters(split.get("filters") or {}),
        cold_items=split["cold_items"],
        catalogue=split["catalogue"],
        seen_items=SEEN_LEFT_OUT if (lists or evaluation).get("exclude_seen") else "may be recommended",
        ranking=describe_lists(lists) if lists else describe_ranking(evaluation),
    )


def describe_filters(filters: Mapping[str, Any]) -> str:
    """The filters that are on, in words.

    >>> describe_filters({"user_min_events": 5, "item_min_events": 0})
    'events per user ≥ 5'
    """
    on = {name: value for name, value in filters.items() if value not in (None, 0, False, "", "none", "off")}
    return (
        ", ".join(FILTERS.get(name, name.replace("_", " ") + " {}").format(value) for name, value in on.items())
        or "none"
    )


def describe_ranking(evaluation: Mapping[str, Any]) -> str:
    """Which items were ranked, and for which users."""
    candidates = evaluation.get("candidates")
    ranking = f"candidate set {candidates}" if candidates else "full ranking"
    users = evaluation.get("max_users") or 0
    return f"{ranking}, sample of {grouped(users)} users" if users else f"{ranking}, all test users"


def describe_lists(lists: Mapping[str, Any]) -> str:
    """Which lists were re-ranked.

    >>> describe_lists({"candidates": 30, "earlier_stage": "item-knn", "clicked_only": True})
    'at most 30 candidates of item-knn, lists with a click'
    """
    kept = "lists with a click" if lists["clicked_only"] else "all lists"
    return f"at most {lists['candidates']} candidates of {lists['earlier_stage']}, {kept}"
