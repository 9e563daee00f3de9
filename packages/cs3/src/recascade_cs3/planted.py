"""A generated log of impressions whose click probabilities are known, so that the best possible AUC is known too.

The recipe is the project's own (not the paper's): users and items are Gaussian points, a click is a coin whose logit is
their inner product plus biases, and side features are coarse and noisy views of the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.dataset import MANIFEST, Dataset
from recascade.errors import ConfigurationError, did_you_mean
from recascade.evaluation.click_metrics import auc
from recascade.files import write_folder_atomically, write_json

Array = NDArray[np.float64]

_LATENTS = 8
_LATENT_DEVIATION = 1.6 / np.sqrt(_LATENTS)
_BIAS_DEVIATION = 0.7
_ACTIVITY_SHAPE = 0.6  # of the gamma distribution of users' activity and items' popularity
_AFFINITY = 1.5
_FEATURE_NOISE = 0.3  # standard deviation, in units of the latents'
_USER_BINS, _ITEM_BINS, _GENRES = 8, 16, 19
_FIRST_SECOND = 1_704_067_200  # 2024-01-01
_MEAN_GAP = 20.0  # seconds between events


@dataclass(frozen=True)
class Preset:
    """How large a planted log is and how many of its impressions are clicked."""

    events: int
    users: int
    items: int
    click_rate: float


PRESETS = {
    "dense": Preset(events=100_000, users=1_500, items=800, click_rate=0.18),
    "sparse": Preset(events=120_000, users=6_000, items=1_500, click_rate=0.09),
}


def planted_stream(
    destination: Path, preset: str = "dense", drift: bool = False, events: int | None = None, seed: int = 0
) -> Dataset:
    """Write a planted log as a canonical folder.

    - ``interactions.parquet``: user_id, item_id, timestamp (no two alike), ``click`` (int8) and ``oracle_logit``
      (float32), the true logit of the click: an oracle for evaluation, never an input.
    - ``users.parquet``: ``taste_0`` … ``taste_3``, each a noisy view of one coordinate of the user's point in 8 bins of
      about equally many users.
    - ``items.parquet``: ``style``, likewise in 16 bins, and ``categories``, the two of 19 directions that the item's
      point seems, under noise, to follow most.
    - ``dataset.json``: labelled synthetic, with ``click_rate``; ``bayes_auc``, the AUC of the true logits expected over
      labels, which no predictor can be expected to beat; and ``oracle_auc``, their AUC on the labels drawn.

    Args:
        destination: a new folder.
        preset: ``dense`` (1,500 users, 800 items, 100,000 impressions, 18 % clicked) or ``sparse`` (6,000 users, 1,500
            items, 120,000 impressions, 9 % clicked).
        drift: each user's point moves on a straight line, from start to end of the log, to a second one drawn alike;
            the features of users show the first.
        events: number of impressions in place of the preset's.
        seed: everything derives from it.

    Raises:
        ConfigurationError: there is no such preset, or ``events`` is below 1.
    """
    if preset not in PRESETS:
        raise ConfigurationError(f"There is no preset {preset!r} of the planted log.{did_you_mean(preset, PRESETS)}")
    size = PRESETS[preset]
    count = size.events if events is None else events
    if count < 1:
        raise ConfigurationError(f"A planted log of {count} events is empty; ask for 1 or more.")
    random = np.random.default_rng(seed)
    user_points, user_ends, item_points = (_points(random, number) for number in (size.users, size.users, size.items))
    user_biases = random.normal(0, _BIAS_DEVIATION, size.users)
    item_biases = random.normal(0, _BIAS_DEVIATION, size.items)
    users = _drawn(random, size.users, count)
    items = _drawn(random, size.items, count)

    progress = np.arange(count)[:, None] / max(1, count - 1) if drift else np.zeros((count, 1))
    points = (1 - progress) * user_points[users] + progress * user_ends[users]
    logits = _AFFINITY * (points * item_points[items]).sum(axis=1) + user_biases[users] + item_biases[items]
    logits += _intercept(logits, size.click_rate)
    probabilities = 1 / (1 + np.exp(-logits))
    clicks = random.random(count) < probabilities
    seconds = _FIRST_SECOND + np.cumsum(1 + random.exponential(_MEAN_GAP - 1, count).astype(np.int64))

    user_ids, item_ids = _names("u", size.users), _names("i", size.items)
    facts: dict[str, Any] = {
        "name": f"planted-{preset}{'-drift' if drift else ''}",
        "adapter": "planted",
        "source": f"generated, seed {seed}",
        "terms": "free",
        "synthetic": True,
        "counts": {"interactions": count, "users": size.users, "items": size.items},
        "click_rate": float(clicks.mean()),
        "bayes_auc": expected_auc(logits),
        "oracle_auc": _defined(auc(clicks, logits)),
    }
    with write_folder_atomically(destination) as folder:
        pl.DataFrame(
            {
                "user_id": user_ids.gather(users),
                "item_id": item_ids.gather(items),
                "timestamp": seconds,
                "click": clicks.astype(np.int8),
                "oracle_logit": logits.astype(np.float32),
            }
        ).write_parquet(folder / "interactions.parquet")
        _user_table(random, user_ids, user_points).write_parquet(folder / "users.parquet")
        _item_table(random, item_ids, item_points).write_parquet(folder / "items.parquet")
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def expected_auc(logits: Array) -> float:
    """The AUC that the true logits have in expectation over the labels: the Bayes AUC of these impressions.

    Each pair of impressions counts with the probability that the one is clicked and the other not, so it is the ratio
    of two expectations; an impression is never paired with itself.

    Args:
        logits: float64 ``[N]``.
    """
    ascending = np.sort(logits)
    clicked = 1 / (1 + np.exp(-ascending))
    passed = 1 - clicked
    start = np.searchsorted(ascending, ascending, side="left")
    end = np.searchsorted(ascending, ascending, side="right")
    running = np.concatenate([[0.0], np.cumsum(passed)])
    below, tied = running[start], running[end] - running[start] - passed
    pairs = clicked.sum() * passed.sum() - (clicked * passed).sum()
    return float((clicked * (below + 0.5 * tied)).sum() / pairs)


def _points(random: np.random.Generator, count: int) -> Array:
    return random.normal(0, _LATENT_DEVIATION, (count, _LATENTS))


def _drawn(random: np.random.Generator, kinds: int, count: int) -> NDArray[np.int64]:
    """``count`` draws of 0…kinds-1, each kind with a weight of its own."""
    weights = random.gamma(_ACTIVITY_SHAPE, size=kinds)
    return random.choice(kinds, count, p=weights / weights.sum())


def _intercept(logits: Array, click_rate: float) -> float:
    """What has to be added to the logits so that the mean probability is the click rate, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logits + middle)))).mean() < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _bins(random: np.random.Generator, coordinate: Array, bins: int) -> NDArray[np.int64]:
    """Ranks of the noisy coordinate in ``bins`` parts of equal size."""
    seen = coordinate + random.normal(0, _FEATURE_NOISE * _LATENT_DEVIATION, len(coordinate))
    return np.argsort(np.argsort(seen)) * bins // len(seen)


def _user_table(random: np.random.Generator, ids: pl.Series, points: Array) -> pl.DataFrame:
    tastes = {
        f"taste_{axis}": _labels("taste", _bins(random, points[:, axis], _USER_BINS)) for axis in range(_LATENTS // 2)
    }
    return pl.DataFrame({"user_id": ids, **tastes})


def _item_table(random: np.random.Generator, ids: pl.Series, points: Array) -> pl.DataFrame:
    directions = random.normal(0, 1 / np.sqrt(_LATENTS), (_LATENTS, _GENRES))
    fit = points @ directions
    fit += random.normal(0, _FEATURE_NOISE * _LATENT_DEVIATION, fit.shape)
    genres = np.sort(np.argsort(fit, axis=1)[:, -2:], axis=1)
    categories = _labels("genre", genres.reshape(-1)).reshape((len(genres), 2)).arr.to_list()
    style = _labels("style", _bins(random, points[:, 0], _ITEM_BINS))
    return pl.DataFrame({"item_id": ids, "style": style, "categories": categories})


def _labels(word: str, numbers: NDArray[np.int64]) -> pl.Series:
    return f"{word} " + pl.Series(numbers).cast(pl.String)


def _names(letter: str, count: int) -> pl.Series:
    return letter + pl.Series(np.arange(count)).cast(pl.String).str.zfill(len(str(count)))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
