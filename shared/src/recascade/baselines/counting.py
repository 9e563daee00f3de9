"""Fit functions of the methods that count: nothing is trained, the seed has no effect."""

from __future__ import annotations

from dataclasses import asdict

from recascade.contracts.method import Experiment
from recascade.models.co_visit import CoVisit
from recascade.models.item_knn import ItemKNN
from recascade.models.personal_frequency import PersonalFrequency
from recascade.models.popularity import Popularity
from recascade.models.transition import Transition


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
