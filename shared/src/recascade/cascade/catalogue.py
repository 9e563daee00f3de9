"""The items of a service: their numbers, identifiers and titles."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split
from recascade.serving.parameters import RequestError

_TITLE_COLUMNS = ("title", "text")
_LONGEST_TITLE = 80


class Catalogue:
    """Items numbered as in the vocabulary of a split.

    Args:
        data: its item vocabulary.
        split: its catalogue file says the titles, where it has any.
    """

    def __init__(self, data: EncodedSplit, split: Split) -> None:
        self.names: list[str] = data.items.ids.to_list()
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._titles = _titles(data, split)

    def __len__(self) -> int:
        return len(self.names)

    def numbers(self, names: Sequence[str]) -> list[int]:
        """The numbers of these items.

        Raises:
            RequestError: an item is unknown.
        """
        try:
            return [self._numbers[name] for name in names]
        except KeyError as error:
            raise RequestError(f"There is no item {error.args[0]!r} in the catalogue.") from error

    def number(self, name: str) -> int | None:
        """The number of an item, None for an unknown one."""
        return self._numbers.get(name)

    def add(self, name: str, title: str) -> int:
        """Give an item the next number, or another title to one that is there; returns its number."""
        number = self._numbers.get(name)
        if number is None:
            # Readers go from names to numbers and back without a lock: the name must be there before its number is.
            number = len(self.names)
            self.names.append(name)
            self._numbers[name] = number
        if title:
            self._titles[number] = title[:_LONGEST_TITLE]
        return number

    def title(self, number: int) -> str:
        """What to call an item before people."""
        return self._titles.get(number) or self.names[number]


def _titles(data: EncodedSplit, split: Split) -> dict[int, str]:
    items = split.items()
    columns = [] if items is None else [name for name in _TITLE_COLUMNS if name in items.collect_schema()]
    if items is None or not columns:
        return {}
    numbered = data.items.ids.to_frame("item_id").with_row_index("number")
    # A column may be there and empty, as titles are in logs of purchases.
    title = pl.coalesce(pl.col(columns).cast(pl.String))
    known = items.select("item_id", title=title).unique("item_id", keep="first").collect()
    found = numbered.join(known, on="item_id", how="inner").drop_nulls()
    return {number: title[:_LONGEST_TITLE] for number, title in found.select("number", "title").iter_rows()}
