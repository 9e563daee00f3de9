"""Fit functions of the methods that count: nothing is trained, the seed has no effect."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from recascade.contracts.method import Experiment
from recascade.models.co_visit import CoVisit
from recascade.models.item_knn import ItemKNN
from recascade.models.personal_frequency import PersonalFrequency
from recascade.models.popularity import Popularity
from recascade.models.transition import Transition
from recascade.models.transition_similarity import TransitionSimilarity


def fit_popularity(experiment: Experiment) -> Popularity:
    """Count."""
    return Popularity.fit(experiment.data)


def fit_personal_frequency(experiment: Experiment) -> PersonalFrequency:
    """Count."""
    return PersonalFrequency.fit(experiment.data, **asdict(experiment.config))


def fit_transition(experiment: Experiment) -> Transition:
    """Count."""
    return Transition.fit(experiment.data)


def fit_co_visit(experiment: Experiment) -> CoVisit:
    """Count."""
    return CoVisit.fit(experiment.data, **asdict(experiment.config))


def fit_item_knn(experiment: Experiment) -> ItemKNN:
    """Compare all pairs of items."""
    return ItemKNN.fit(experiment.data, **asdict(experiment.config))


def fit_transition_similarity(experiment: Experiment) -> TransitionSimilarity:
    """Count transitions, and weigh the words of the items' texts where the data set has any."""
    return TransitionSimilarity.fit(experiment.data, _texts(experiment), **asdict(experiment.config))


def _texts(experiment: Experiment) -> pl.Series | None:
    """The text of each item of the vocabulary, in its order; null for an item without one."""
    catalogue = experiment.split.items()
    if catalogue is None or "text" not in catalogue.collect_schema():
        return None
    texts = catalogue.select("item_id", "text").unique("item_id", keep="first").collect()
    items = experiment.data.items.ids.to_frame("item_id")
    return items.join(texts, on="item_id", how="left", maintain_order="left")["text"]
