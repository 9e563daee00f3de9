"""Which domain each item of a vocabulary belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.domains import DOMAIN
from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.files import write_atomically

if TYPE_CHECKING:
    from recascade.data.split import Split
    from recascade.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class ItemDomains:
    """The domains of a vocabulary's I items.

    Attributes:
        names: the domains, in the order of their names.
        codes: int16 ``[I]``, place in ``names``.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int16]

    def code(self, name: str) -> int:
        """Place of a domain in ``names``.

        Raises:
            ConfigurationError: there is no such domain, with the nearest name.
        """
        if name not in self.names:
            raise ConfigurationError(f"There is no domain {name!r} in the data.{did_you_mean(name, self.names)}")
        return self.names.index(name)

    def members(self, name: str) -> NDArray[np.int64]:
        """int64, the items of a domain, ascending."""
        return np.flatnonzero(self.codes == self.code(name))

    def save(self, path: Path) -> None:
        """Write one row per item, its domain's name."""
        with write_atomically(path) as temporary:
            pl.DataFrame({DOMAIN: pl.Series(self.names).gather(self.codes.astype(np.int64))}).write_parquet(temporary)

    @classmethod
    def load(cls, path: Path) -> ItemDomains:
        """Read what ``save`` wrote."""
        with explain_read_failure(path):
            return cls._of(pl.read_parquet(path)[DOMAIN])

    @classmethod
    def _of(cls, named: pl.Series) -> ItemDomains:
        names = named.unique().sort()
        return cls(tuple(names), named.cast(pl.Enum(names)).to_physical().cast(pl.Int16).to_numpy())


def read_item_domains(split: Split, items: Vocabulary) -> ItemDomains | None:
    """The domains of a split's items: what the training events say, and for items without any the catalogue file.

    Returns:
        None where the log has no column ``domain``.

    Raises:
        DataError: an item stands in two domains or in none.
    """
    training = split.part("train")
    if DOMAIN not in training.collect_schema():
        return None
    pair = (pl.col("item_id"), pl.col(DOMAIN).cast(pl.String))
    pairs = [training.select(pair).unique()]
    listed = split.items()
    if listed is not None and DOMAIN in listed.collect_schema():
        pairs.append(listed.select(pair).unique())
    known = pl.concat(pairs).drop_nulls().unique().collect(engine="streaming")
    repeated = known.filter(pl.col("item_id").is_duplicated()).sort("item_id", DOMAIN)
    if len(repeated):
        item = repeated["item_id"][0]
        both = repeated.filter(pl.col("item_id") == item)[DOMAIN].to_list()
        raise DataError(
            f"Item {item!r} stands in the domains {both[0]!r} and {both[1]!r}; an item belongs to one domain: give it "
            "an identifier in each, as by putting the domain before it."
        )
    named = pl.DataFrame({"item_id": items.ids}).join(known, on="item_id", how="left", maintain_order="left")
    missing = named.filter(pl.col(DOMAIN).is_null())
    if len(missing):
        raise DataError(
            f"{len(missing):,} items have no domain, first {missing['item_id'][0]!r}; fill the column {DOMAIN!r} of "
            "the interactions."
        )
    return ItemDomains._of(named[DOMAIN])
