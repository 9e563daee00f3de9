"""Everything that turns the vector and fields of one item into its code, frozen after fitting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.contracts.tokenizer import Tokenizer
from recascade.tokenizers.contrastive import ContrastiveProjection
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.quantisers import QUANTISERS
from recascade.tokenizers.vectors import checked, unit_length


@dataclass(frozen=True)
class ItemTokenizer:
    """A quantiser of item vectors; before it perhaps a tuning of the vectors, behind it UA-SID's hashed level.

    Attributes:
        name: of the quantiser, as in ``recascade.tokenizers.config``.
        quantiser: the clustered levels.
        normalise: scale vectors to length 1 first (GR4AD, inferred), so that new ones need not be.
        projection: what tunes the vectors, fitted already, or None.
        hashed: the last level of UA-SID, or None.
    """

    name: str
    quantiser: Tokenizer
    normalise: bool = True
    projection: ContrastiveProjection | None = None
    hashed: HashedLevel | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, the hashed one included."""
        return (*self.quantiser.sizes, *([self.hashed.size] if self.hashed else []))

    def tuned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the quantiser sees of item vectors, float32 ``[N, d]``.

        Raises:
            DataError: they cannot be used.
        """
        if self.normalise:
            vectors = unit_length(checked(vectors).numpy())
        return vectors if self.projection is None else self.projection.encode(vectors)

    def fit(self, vectors: NDArray[np.float32], fields: pl.DataFrame) -> NDArray[np.int64]:
        """Learn the quantiser from N items and return their codes, int64 ``[N, L]``.

        Args:
            vectors: float32 ``[N, d]``, not normalised or tuned.
            fields: N rows; read only by a hashed level.
        """
        return self._with_hash(self.quantiser.fit(self.tuned(vectors)), fields)

    def encode(self, vectors: NDArray[np.float32], fields: pl.DataFrame) -> NDArray[np.int64]:
        """Codes int64 ``[N, L]`` of items, new ones or not, all as it was fitted; arguments as in ``fit``."""
        return self._with_hash(self.quantiser.encode(self.tuned(vectors)), fields)

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        """The tuned vectors float32 ``[N, d]`` that codes stand for; hashed levels and digits say nothing of them."""
        return self.quantiser.decode(codes[:, : len(self.quantiser.sizes)].astype(np.int64))

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Squared distances float32 ``[N, K]`` to the codes of the last level; only without a hashed one."""
        return self.quantiser.last_level_distances(self.tuned(vectors), codes)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Everything learned, by name."""
        tuning = {} if self.projection is None else self.projection.arrays()
        return self.quantiser.arrays() | {f"projection.{name}": array for name, array in tuning.items()}

    @classmethod
    def from_arrays(
        cls, name: str, arrays: dict[str, NDArray[np.float32]], *, normalise: bool, hashed: HashedLevel | None
    ) -> ItemTokenizer:
        """The tokenizer whose ``arrays`` these are."""
        tuning = {
            key.removeprefix("projection."): array for key, array in arrays.items() if key.startswith("projection.")
        }
        return cls(
            name=name,
            quantiser=QUANTISERS[name].from_arrays(arrays),
            normalise=normalise,
            projection=ContrastiveProjection.from_arrays(tuning) if tuning else None,
            hashed=hashed,
        )

    def _with_hash(self, codes: NDArray[np.int64], fields: pl.DataFrame) -> NDArray[np.int64]:
        return codes if self.hashed is None else np.column_stack([codes, self.hashed.codes(fields)])
