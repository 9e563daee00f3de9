"""Everything that turns one item into its code, frozen after fitting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.contracts.tokenizer import Tokenizer
from recascade.tokenizers.hashed_level import HashedLevel


@dataclass(frozen=True)
class ItemTokenizer:
    """A quantiser of item vectors and, for UA-SID, a level hashed from the items' fields behind it.

    Attributes:
        name: of the quantiser, as in ``recascade.tokenizers.config``.
        quantiser: the fitted levels.
        hashed: the last level of UA-SID, or None.
    """

    name: str
    quantiser: Tokenizer
    hashed: HashedLevel | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, the hashed one included."""
        return (*self.quantiser.sizes, *([self.hashed.size] if self.hashed else []))

    def fit(self, vectors: NDArray[np.float32], fields: pl.DataFrame) -> NDArray[np.int64]:
        """Learn from N items and return their codes, int64 ``[N, L]``.

        Args:
            vectors: float32 ``[N, d]``.
            fields: N rows; read only by a hashed level.
        """
        return self._with_hash(self.quantiser.fit(vectors), fields)

    def encode(self, vectors: NDArray[np.float32], fields: pl.DataFrame) -> NDArray[np.int64]:
        """Codes int64 ``[N, L]`` of items, new ones or not, with everything as it was fitted."""
        return self._with_hash(self.quantiser.encode(vectors), fields)

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors float32 ``[N, d]`` that codes stand for; hashed levels and digits say nothing of them."""
        return self.quantiser.decode(codes[:, : len(self.quantiser.sizes)])

    def _with_hash(self, codes: NDArray[np.int64], fields: pl.DataFrame) -> NDArray[np.int64]:
        return codes if self.hashed is None else np.column_stack([codes, self.hashed.codes(fields)])
