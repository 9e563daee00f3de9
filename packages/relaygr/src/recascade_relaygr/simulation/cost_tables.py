"""How long the simulated device takes: drawn from samples that a real one gave, or from formulas that we made up."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recascade.errors import DataError
from recascade.files import read_json
from recascade_relaygr.relay.costs import Costs, CostTable

KINDS = ("full", "rank", "prefill", "reload")
_PREDICTED = 0.99
_ACCELERATOR_SPREAD = 0.05
_ACCELERATOR_TOKEN_BYTES = 10 * 1024
_ACCELERATOR_LENGTHS = tuple(range(0, 8_193, 512))
_P99 = 2.3263


@dataclass(frozen=True)
class Durations:
    """What a device takes and what the relay believes that it takes.

    Attributes:
        device: in words.
        simulated: whether the durations were made up rather than measured.
        token_bytes: bytes that one token takes in the prefix cache.
        costs: medians; what works take, up to a factor.
        predicted: 99th percentiles, as the relay's own tables hold them. Each use needs a table of its own, since the
            relay corrects them.
        factors: of the medians; one is drawn for each work.
    """

    device: str
    simulated: bool
    token_bytes: int
    costs: Costs
    predicted: Callable[[], Costs]
    factors: Sequence[float]

    def noise(self, seed: int) -> Callable[[], float]:
        """Draws factors."""
        draw = random.Random(seed)
        return lambda: draw.choice(self.factors)


def accelerator_like() -> Durations:
    """A made-up accelerator; with ``n`` thousands of prefix tokens, 64 recent ones and 128 candidates, milliseconds::

        full     3.0 + 9.0 n + 3 n²          33 at 2 K
        rank     2.1 + 2.2 n                 6.5
        prefill  2.3 + 6.8 n + 3 n²          28
        reload   3.0 + 0.22 n                3.4

    The shapes are those of the model (attention over the prefix is quadratic, ranking on it linear). The size is that
    of public figures for such rankers on accelerators: a few dozen milliseconds at some thousand tokens, 10 KiB per
    token (five layers, four heads of 128, bfloat16), and 45 GiB per second and 3 ms of overhead for copies from host
    memory. Durations scatter by a log-normal factor with sigma 0.05. Nothing of this was measured by us.
    """
    formulas: dict[str, Callable[[float], float]] = {
        "full": lambda n: 3.0 + 9.0 * n + 3.0 * n * n,
        "rank": lambda n: 2.1 + 2.2 * n,
        "prefill": lambda n: 2.3 + 6.8 * n + 3.0 * n * n if n else 0.0,
        "reload": lambda n: 3.0 + 0.22 * n,
    }

    def tables(factor: float) -> Costs:
        return Costs(
            *(
                CostTable.measured(
                    lambda length, _, kind=kind: factor * formulas[kind](length / 1024) / 1e3,  # type: ignore[misc]
                    _ACCELERATOR_LENGTHS,
                )
                for kind in KINDS
            )
        )

    factors = np.random.default_rng(0).lognormal(0.0, _ACCELERATOR_SPREAD, 4096)
    slow = float(np.exp(_P99 * _ACCELERATOR_SPREAD))
    return Durations(
        "accelerator-like, simulated",
        True,
        _ACCELERATOR_TOKEN_BYTES,
        tables(1.0),
        lambda: tables(slow),
        factors.tolist(),
    )


def read_durations(path: Path) -> Durations:
    """Durations that a device really took, from a file as ``recascade relaygr profile`` writes it.

    Raises:
        DataError: the file does not hold what ``durations_of`` reads.
    """
    try:
        return durations_of(read_json(path))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} is no table of measured durations ({type(error).__name__}: {error}); "
            "'recascade relaygr profile' writes one."
        ) from error


def durations_of(record: Any) -> Durations:
    """Durations that a device really took.

    Args:
        record: ``device`` in words, ``token_bytes``, ascending ``lengths`` and ``candidates``, and ``seconds``, with
            for each of ``full``, ``rank``, ``prefill`` and ``reload`` a list of samples for each length and, within it,
            each number of candidates (one, for the last two).

    Raises:
        KeyError, TypeError, ValueError or IndexError: the record does not say that.
    """
    lengths, candidates = list(record["lengths"]), list(record["candidates"])
    samples = {kind: record["seconds"][kind] for kind in KINDS}
    medians = {kind: _quantiles(samples[kind], 0.5) for kind in KINDS}
    slow = {kind: _quantiles(samples[kind], _PREDICTED) for kind in KINDS}

    def tables(seconds: dict[str, list[list[float]]]) -> Costs:
        return Costs(
            *(
                CostTable(lengths, candidates if kind in ("full", "rank") else [1], seconds[kind], _PREDICTED)
                for kind in KINDS
            )
        )

    return Durations(
        device=str(record["device"]),
        simulated=False,
        token_bytes=int(record["token_bytes"]),
        costs=tables(medians),
        predicted=lambda: tables(slow),
        factors=_factors(samples, medians),
    )


def _quantiles(samples: Any, share: float) -> list[list[float]]:
    return [[float(np.quantile(cell, share)) for cell in row] for row in samples]


def _factors(samples: Any, medians: dict[str, list[list[float]]]) -> list[float]:
    """All samples of the two ranking kinds, each divided by the median of its place in the grid."""
    return [
        float(sample) / median
        for kind in ("full", "rank")
        for row, medians_of_row in zip(samples[kind], medians[kind], strict=True)
        for cell, median in zip(row, medians_of_row, strict=True)
        for sample in cell
        if median > 0
    ]
