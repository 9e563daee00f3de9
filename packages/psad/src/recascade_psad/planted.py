"""Generated candidate lists in which only the whole list says what is best, with an oracle that knows.

The recipe is the project's own. Items are unit vectors around category centres; a user wants a direction, most of which
is one category (the intent), and is averse to redundancy to a degree that the profile names. What the user picks from a
list is what greedy maximal marginal relevance picks (Carbonell and Goldstein, SIGIR 1998), so that a good re-ranker
must read the history, the profile and the other candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError

Array = NDArray[np.float64]

AVERSIONS = (0.0, 0.5, 1.0)
"""λ of a user, named by the profile: weight of the redundancy of an item with those picked before."""
_DIMENSION, _CATEGORIES = 8, 12
_SPREAD = 0.5  # norm of an item's offset from its category's centre, about
_TASTE, _INTENT = 0.6, 0.8
_CHOICE = 4.0  # inverse temperature of the choice of past events
_EARLIER_EVENTS = 0.4  # share of a history that follows the intent before the present one
_AT_ONCE = 512
_YOUNGEST, _OLDEST = 1.0, 60 * 24 * 30.0  # minutes; ages of events are log-uniform between them


@dataclass(frozen=True)
class PlantedWorld:
    """Lists, and what is true of their users.

    Attributes:
        vectors: float64 ``[I, 8]``, unit vectors of the items.
        categories: int64 ``[I]``.
        wishes: float64 ``[Q, 8]``, unit vector of what the user of each list wants.
        aversions: int64 ``[Q]``, index in ``AVERSIONS``.
        history: int64 ``[Q, T]``, items, oldest first.
        ages: float64 ``[Q, T]``, minutes before the request, descending.
        lengths: int64 ``[Q]``, how many of the latest events a list's user really has.
        candidates: int64 ``[Q, n]``, in random order.
        picked: bool ``[Q, n]``, what greedy selection takes.
    """

    vectors: Array
    categories: NDArray[np.int64]
    wishes: Array
    aversions: NDArray[np.int64]
    history: NDArray[np.int64]
    ages: Array
    lengths: NDArray[np.int64]
    candidates: NDArray[np.int64]
    picked: NDArray[np.bool_]

    def utility(self, rows: NDArray[np.int64], items: NDArray[np.int64]) -> Array:
        """float64 ``[R]``: what lists of items are worth to the users of the given lists::

            Σ_j (w · v_j - λ max_{i before j} v_i · v_j)

        Args:
            rows: int64 ``[R]``, lists.
            items: int64 ``[R, k]``, items best first.
        """
        vectors = self.vectors[items]
        relevance = np.einsum("rkd,rd->rk", vectors, self.wishes[rows])
        similarity = np.einsum("rkd,rjd->rkj", vectors, vectors)
        before = np.tril(np.ones(similarity.shape[1:], dtype=bool), -1)
        redundancy = np.where(before, similarity, -np.inf).max(2)
        redundancy[:, 0] = 0.0
        aversion = np.array(AVERSIONS)[self.aversions[rows]]
        utility: Array = (relevance - aversion[:, None] * redundancy).sum(1)
        return utility


def planted_world(
    lists: int = 6000, *, items: int = 2000, candidates: int = 10, history: int = 30, picks: int = 4, seed: int = 0
) -> PlantedWorld:
    """Draw lists; each has a user of its own.

    Args:
        lists: Q.
        items: I.
        candidates: n; 30 to 50 % of them are of the intent's category, the others of any.
        history: T, drawn with probabilities ``softmax(4 w · v)``, the older two fifths for another intent; a user has
            the latest third of them at least.
        picks: candidates that are picked, at most n.
        seed: everything derives from it.

    Raises:
        ConfigurationError: fewer candidates than picks, or too few items.
    """
    if not 1 <= picks <= candidates or items < _CATEGORIES * candidates:
        raise ConfigurationError(
            f"{picks} picks of {candidates} candidates from {items} items cannot be drawn; ask for at most as many "
            f"picks as candidates, and for {_CATEGORIES} times as many items."
        )
    random = np.random.default_rng(seed)
    centres = _unit(random.normal(size=(_CATEGORIES, _DIMENSION)))
    categories = random.integers(_CATEGORIES, size=items)
    vectors = _unit(centres[categories] + _SPREAD * _unit(random.normal(size=(items, _DIMENSION))))
    taste = _unit(random.normal(size=(lists, _DIMENSION)))
    intent, earlier = random.integers(_CATEGORIES, size=(2, lists))
    wishes = _unit(_TASTE * taste + _INTENT * centres[intent])
    earlier_wishes = _unit(_TASTE * taste + _INTENT * centres[earlier])
    old = round(_EARLIER_EVENTS * history)
    events = np.concatenate(
        [_events(random, vectors, earlier_wishes, old), _events(random, vectors, wishes, history - old)], 1
    )
    ages = np.exp(random.uniform(np.log(_YOUNGEST), np.log(_OLDEST), size=(lists, history)))
    lengths = random.integers(history // 3, history + 1, size=lists)
    aversions = random.integers(len(AVERSIONS), size=lists)
    shown = _candidates(random, categories, intent, candidates)
    picked = _greedy(vectors[shown], wishes, np.array(AVERSIONS)[aversions], picks)
    return PlantedWorld(vectors, categories, wishes, aversions, events, -np.sort(-ages, axis=1), lengths, shown, picked)


def _unit(vectors: Array) -> Array:
    scaled: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def _events(random: np.random.Generator, vectors: Array, wishes: Array, count: int) -> NDArray[np.int64]:
    """int64 ``[Q, count]``: distinct items, drawn one after another with ``softmax(4 w · v)`` (the Gumbel trick)."""
    drawn = []
    for start in range(0, len(wishes), _AT_ONCE):
        keys = _CHOICE * wishes[start : start + _AT_ONCE] @ vectors.T
        keys += random.gumbel(size=keys.shape)
        drawn.append(np.argsort(-keys, axis=1)[:, :count])
    return np.concatenate(drawn)


def _candidates(
    random: np.random.Generator, categories: NDArray[np.int64], intent: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """int64 ``[Q, n]``, distinct: 30 to 50 % of the intent's category."""
    wanted = random.integers(round(0.3 * count), round(0.5 * count) + 1, size=len(intent))
    shown = np.empty((len(intent), count), dtype=np.int64)
    for start in range(0, len(intent), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        keys = random.random((len(intent[rows]), len(categories)))
        of_intent = categories == intent[rows, None]
        # The first keys of the intent's items come before all others; the rest compete with everything else.
        places = np.where(of_intent, keys, 2.0).argsort(axis=1).argsort(axis=1)
        keys = np.where(of_intent & (places < wanted[rows, None]), keys - 2.0, keys)
        first = np.argsort(keys, axis=1)[:, :count]
        shown[rows] = random.permuted(first, axis=1)
    return shown


def _greedy(vectors: Array, wishes: Array, aversions: Array, picks: int) -> NDArray[np.bool_]:
    """bool ``[Q, n]``: argmax of ``w · v_i - λ max_{j picked} v_i · v_j``, ``picks`` times."""
    relevance = np.einsum("qnd,qd->qn", vectors, wishes)
    similarity = np.einsum("qnd,qmd->qnm", vectors, vectors)
    picked = np.zeros(relevance.shape, dtype=bool)
    redundancy = np.zeros(relevance.shape)
    rows = np.arange(len(relevance))
    for number in range(picks):
        value = np.where(picked, -np.inf, relevance - aversions[:, None] * redundancy)
        best = value.argmax(axis=1)
        picked[rows, best] = True
        newest = similarity[rows, best]
        redundancy = newest if number == 0 else np.maximum(redundancy, newest)
    return picked
