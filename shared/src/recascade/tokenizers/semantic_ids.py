"""The table of semantic ids: which code an item has, and which items a code stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.vocabulary import Vocabulary
from recascade.errors import ConfigurationError, DataError
from recascade.tokenizers.config import ConflictConfig
from recascade.tokenizers.conflicts import append_digit, outgrown, reassign, roomy_digit
from recascade.tokenizers.item_tokenizer import ItemTokenizer


class SemanticIds:
    """Items and their codes, in both directions, with the tokenizer that gives codes to new items.

    A code is the tuple of its levels. Under the policy ``allow`` one code stands for several items; otherwise only
    where there was no free one.
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        codes: NDArray[np.int32],
        tokenizer: ItemTokenizer,
        conflicts: ConflictConfig,
        fingerprint: str,
    ) -> None:
        """Join N items and their codes; ``build`` makes the codes.

        Args:
            item_ids: N distinct identifiers.
            codes: int32 ``[N, L]``, within ``sizes``.
            tokenizer: what made them.
            conflicts: what to do when new items get a code that is taken.
            fingerprint: of the split whose training events and catalogue the tokenizer saw.
        """
        self.tokenizer = tokenizer
        self.conflicts = conflicts
        self.fingerprint = fingerprint
        self._ids = list(item_ids)
        self._codes = codes
        self._rows = dict(zip(self._ids, range(len(self._ids)), strict=True))
        if len(self._rows) != len(self._ids):
            raise DataError("An item stands twice in the table of semantic ids; keep one row per item.")

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        tokenizer: ItemTokenizer,
        *,
        fields: pl.DataFrame | None = None,
        conflicts: ConflictConfig,
        fingerprint: str = "",
    ) -> SemanticIds:
        """Fit the tokenizer on N items and settle their conflicts.

        Args:
            item_ids: N distinct identifiers.
            vectors: float32 ``[N, d]`` in their order.
            tokenizer: not fitted yet.
            fields: N rows of what a hashed level reads; None where it reads ``item_id`` only.
            conflicts: its ``policy`` must be set; a ``digit_size`` of 0 is settled here.
            fingerprint: of the data.

        Raises:
            DataError: vectors or fields cannot be used, or more items share a code than a digit can count.
            ConfigurationError: a level has more codes than there are items.
        """
        codes = tokenizer.fit(vectors, _fields(item_ids, fields))
        if conflicts.policy == "digit":
            conflicts = replace(conflicts, digit_size=conflicts.digit_size or roomy_digit(codes))
            codes = append_digit(codes, conflicts.digit_size)
        elif conflicts.policy == "reassign":
            codes = reassign(
                codes,
                tokenizer.sizes[-1],
                lambda rows: tokenizer.last_level_distances(vectors[rows], codes[rows]),
                temperature=conflicts.temperature,
                iterations=conflicts.iterations,
            )
        return cls(item_ids, codes.astype(np.int32), tokenizer, conflicts, fingerprint)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, L numbers, an appended digit included."""
        digit = (self.conflicts.digit_size,) if self.conflicts.policy == "digit" else ()
        return self.tokenizer.sizes + digit

    @property
    def item_ids(self) -> list[str]:
        """The N items, deleted ones left out."""
        return list(self._rows)

    @property
    def codes(self) -> NDArray[np.int32]:
        """The codes of ``item_ids``, int32 ``[N, L]``."""
        return self._codes[np.fromiter(self._rows.values(), dtype=np.int64, count=len(self._rows))]

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def code(self, item_id: str) -> tuple[int, ...]:
        """The code of an item, in O(1).

        Raises:
            DataError: the item has none.
        """
        row = self._rows.get(item_id)
        if row is None:
            raise DataError(f"Item {item_id!r} has no semantic id; add it with its vector first.")
        return tuple(self._codes[row].tolist())

    def items(self, code: Sequence[int]) -> list[str]:
        """The items of a code, oldest first, in O(1); none where nobody has it."""
        return [self._ids[row] for row in self._holders.get(tuple(code), ())]

    def codes_for(self, vocabulary: Vocabulary) -> NDArray[np.int32]:
        """The codes of the items of a vocabulary in its order, int32 ``[I, L]``.

        Raises:
            DataError: an item of the vocabulary has no code.
        """
        table = pl.DataFrame({"item_id": self._rows.keys(), "row": self._rows.values()})
        rows = vocabulary.ids.to_frame("item_id").join(table, on="item_id", how="left", maintain_order="left")["row"]
        if rows.null_count():
            first = vocabulary.ids[int(rows.is_null().arg_true()[0])]
            raise DataError(
                f"{rows.null_count():,} of {len(vocabulary):,} items have no semantic id, first {first!r}; make the "
                "table from the same data and split, or add these items to it."
            )
        codes: NDArray[np.int32] = self._codes[rows.to_numpy()]
        return codes

    def append(
        self, item_ids: Sequence[str], vectors: NDArray[np.float32], fields: pl.DataFrame | None = None
    ) -> NDArray[np.int32]:
        """Give codes to n new items with the frozen tokenizer; no existing code changes.

        The cost does not depend on the number of items in the table. A digit is the smallest free one; ``reassign``
        gives the nearest free code of the last level, or the taken one where none is free.

        Args:
            item_ids: n identifiers that are not in the table.
            vectors: float32 ``[n, d]``, made by the encoder of the fitted ones.
            fields: n rows of what a hashed level reads; None where it reads ``item_id`` only.

        Returns:
            int32 ``[n, L]``.

        Raises:
            DataError: an item is there already or twice, a vector cannot be used, or no digit is free; nothing is
                added then.
        """
        self._require_new(item_ids)
        if len(vectors) != len(item_ids):
            raise DataError(f"There are {len(vectors)} vectors for {len(item_ids)} new items; give one per item.")
        encoded = self.tokenizer.encode(vectors, _fields(item_ids, fields))
        return self._add(item_ids, self._without_conflicts(encoded, vectors))

    def append_encoded(self, item_ids: Sequence[str], encoded: NDArray[np.int64]) -> NDArray[np.int32]:
        """Do what ``append`` does, with what ``tokenizer.encode`` has made of the vectors elsewhere.

        Args:
            item_ids: n identifiers that are not in the table.
            encoded: int64 ``[n, L]`` without a digit; conflicts are settled here.

        Returns:
            int32 ``[n, L]``, with the digit.

        Raises:
            DataError: as ``append``.
            ConfigurationError: the policy is ``reassign``, which asks for distances to vectors.
        """
        if self.conflicts.policy == "reassign":
            raise ConfigurationError(
                "The table has tokenizer.conflicts.policy=reassign, which needs the vectors of items whose code is "
                "taken; append items with their vectors."
            )
        self._require_new(item_ids)
        return self._add(item_ids, self._without_conflicts(encoded, np.empty((0, 0), dtype=np.float32)))

    def _require_new(self, item_ids: Sequence[str]) -> None:
        known = [item_id for item_id in item_ids if item_id in self._rows]
        if known or len(set(item_ids)) != len(item_ids):
            repeated = known[0] if known else next(one for one in item_ids if list(item_ids).count(one) > 1)
            raise DataError(f"Item {repeated!r} has a semantic id already; delete it before it is added anew.")

    def _add(self, item_ids: Sequence[str], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        first = len(self._ids)
        holders = self._holders
        self._make_room(first + len(codes))
        self._codes[first : first + len(codes)] = codes
        for row, (item_id, code) in enumerate(zip(item_ids, codes.tolist(), strict=True), start=first):
            self._ids.append(item_id)
            self._rows[item_id] = row
            holders.setdefault(tuple(code), []).append(row)
        return codes

    def delete(self, item_ids: Sequence[str]) -> None:
        """Take items out; their codes are free again.

        Raises:
            DataError: an item is not in the table; nothing is deleted then.
        """
        codes = [self.code(item_id) for item_id in item_ids]
        holders = self._holders
        for item_id, code in zip(item_ids, codes, strict=True):
            row = self._rows.pop(item_id, None)
            if row is not None:
                holders[code].remove(row)
                if not holders[code]:
                    del holders[code]

    @cached_property
    def _holders(self) -> dict[tuple[int, ...], list[int]]:
        """Code → rows. Made when first asked for: whoever only trains never does."""
        holders: dict[tuple[int, ...], list[int]] = {}
        for row, code in zip(self._rows.values(), map(tuple, self.codes.tolist()), strict=True):
            holders.setdefault(code, []).append(row)
        return holders

    def _make_room(self, rows: int) -> None:
        """Doubling keeps the cost of one more item constant on average."""
        if rows > len(self._codes):
            grown = np.zeros((max(rows, 2 * len(self._codes)), self._codes.shape[1]), dtype=np.int32)
            grown[: len(self._codes)] = self._codes
            self._codes = grown

    def _without_conflicts(self, codes: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        settled: list[tuple[int, ...]] = []
        claimed: set[tuple[int, ...]] = set()
        for number, code in enumerate(map(tuple, codes.tolist())):
            free = code
            if self.conflicts.policy == "digit":
                free = self._with_digit(code, claimed)
            elif self.conflicts.policy == "reassign" and (code in self._holders or code in claimed):
                distances = self.tokenizer.last_level_distances(
                    vectors[number : number + 1], codes[number : number + 1]
                )
                nearest = ((*code[:-1], last) for last in distances[0].argsort(kind="stable").tolist())
                free = next((one for one in nearest if one not in self._holders and one not in claimed), code)
            claimed.add(free)
            settled.append(free)
        return np.array(settled, dtype=np.int32).reshape(len(codes), len(self.sizes))

    def _with_digit(self, code: tuple[int, ...], claimed: set[tuple[int, ...]]) -> tuple[int, ...]:
        for digit in range(self.conflicts.digit_size):
            if (*code, digit) not in self._holders and (*code, digit) not in claimed:
                return (*code, digit)
        raise DataError(outgrown(self.conflicts.digit_size + 1, self.conflicts.digit_size))


def _fields(item_ids: Sequence[str], fields: pl.DataFrame | None) -> pl.DataFrame:
    if fields is None:
        return pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
    if len(fields) != len(item_ids):
        raise DataError(f"There are {len(fields)} rows of fields for {len(item_ids)} items; give one per item.")
    return fields
