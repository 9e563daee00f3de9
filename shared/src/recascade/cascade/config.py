"""What a cascade is made of. Importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from recascade.bench.registry import find_method, installed_methods
from recascade.contracts.checks import check_at_least, check_within
from recascade.contracts.method import Method, Stage
from recascade.errors import ConfigurationError, did_you_mean
from recascade.evaluation.config import RANKING_METRICS
from recascade.evaluation.list_config import LIST_METRICS
from recascade.evaluation.monitor import split_monitor

if TYPE_CHECKING:
    from recascade.bench.config import RunConfig
    from recascade.training.config import TrainerConfig

NONE = "none"
_SECTIONS = ("model", "trainer")


@dataclass
class CascadeConfig:
    """Which methods stand in line, and how long the lists between them are. All defaults are our choice.

    A stage is written as the name of a method, or ``method/variant``; its settings are a list of texts as they are
    typed for ``recascade run``, as ``model.ranker_settings=[dimension=32, trainer.max_epochs=5]``.

    Attributes:
        retriever: the method that finds candidates in the whole catalogue; item-knn.
        ranker: the method that scores the candidates; ``none`` keeps the retriever's order.
        reranker: the method that orders the head of the list as a whole; ``none`` keeps the ranker's order.
        retriever_settings: the retriever's own settings, and ``trainer.…`` where it is trained otherwise than the rest.
        ranker_settings: likewise.
        reranker_settings: likewise.
        ranker_weight: of the ranker's scores against the retriever's order, from 0 (the order stays) to 1 (the scores
            alone); ``null`` takes what serves ``trainer.monitor`` best on the validation part, in steps of 0.1. See
            ``recascade.cascade.blend``.
        retrieved: candidates that the retriever sends; 200.
        reranked: candidates of them, the ranker's best, that the re-ranker reads; 30, as in the public re-ranking sets.
        history: latest events of a user that the re-ranker reads; 50.
        held_share: share of the training events, the latest, that the earlier stages do not see while they make the
            lists that a re-ranker learns from; 0.2. Under ``split.protocol=temporal`` the latest of the whole log,
            otherwise the latest of each user.
        list_window: how many of a user's next events are one such list's outcome; 1. Under ``split.ties=group`` it is a
            group (a basket, a day) instead.
        most_lists: at most this many lists (a seeded sample); 20000; 0 for all.
    """

    retriever: str = "item-knn"
    ranker: str = NONE
    reranker: str = NONE
    retriever_settings: list[str] = field(default_factory=list)
    ranker_settings: list[str] = field(default_factory=list)
    reranker_settings: list[str] = field(default_factory=list)
    ranker_weight: float | None = None
    retrieved: int = 200
    reranked: int = 30
    history: int = 50
    held_share: float = 0.2
    list_window: int = 1
    most_lists: int = 20_000

    def check(self) -> None:
        """Refuse a cascade that cannot work.

        Raises:
            ConfigurationError: a method does not serve the stage it is put at, is unknown, or has no such setting; or a
                number is impossible.
            MissingDependencyError: a method of this project that is not installed.
        """
        for name, least in (("retrieved", 1), ("reranked", 2), ("history", 1), ("list_window", 1), ("most_lists", 0)):
            check_at_least(f"model.{name}", getattr(self, name), least)
        check_within("model.held_share", self.held_share, 0, 0.9)
        if self.ranker_weight is not None and not 0 <= self.ranker_weight <= 1:
            raise ConfigurationError(f"model.ranker_weight is {self.ranker_weight}; it must be from 0 to 1, or null.")
        if self.reranker != NONE and self.reranked > self.retrieved:
            raise ConfigurationError(
                f"model.reranked is {self.reranked}, more than the {self.retrieved} candidates of model.retrieved."
            )
        for member in self.members:
            member.config({})

    def check_trainer(self, trainer: TrainerConfig) -> None:
        """Refuse what a cascade cannot be trained by.

        Raises:
            ConfigurationError: ``trainer.devices`` or ``trainer.refit``, for all stages or one of them; or a
                ``trainer.monitor`` that a stage cannot be chosen by.
        """
        for each in (trainer, *(member.config(asdict(trainer)).trainer for member in self.members)):
            if each.devices > 1:
                raise ConfigurationError("A cascade is trained in one process; leave trainer.devices out.")
            if each.refit:
                raise ConfigurationError(
                    "trainer.refit would train a cascade on the events that choose its weight and epochs; leave it out."
                )

        for member in self.members:
            monitor, _ = split_monitor(member.config(asdict(trainer)).trainer.monitor)
            known = LIST_METRICS if member.slot == "reranker" else RANKING_METRICS
            if monitor not in known:
                raise ConfigurationError(
                    f"trainer.monitor is {monitor!r} of lists, which model.{member.slot} is not chosen by; take one of "
                    f"{', '.join(known)}, or put another trainer.monitor into model.{member.slot}_settings."
                )

    @property
    def members(self) -> tuple[Member, ...]:
        """The stages that are there, in their order.

        Raises:
            ConfigurationError: as ``check``.
        """
        slots: tuple[tuple[str, Stage], ...] = (
            ("retriever", "retrieval"),
            ("ranker", "ranking"),
            ("reranker", "re-ranking"),
        )
        members = []
        for slot, stage in slots:
            written, settings = getattr(self, slot), getattr(self, f"{slot}_settings")
            if written != NONE:
                members.append(_member(slot, stage, written, settings))
            elif slot == "retriever":
                raise ConfigurationError(
                    "model.retriever is none, but somebody must find the candidates; name a method of stage retrieval."
                )
            elif settings:
                raise ConfigurationError(f"model.{slot}_settings has values, but model.{slot} is none; name a method.")
        return tuple(members)


@dataclass(frozen=True)
class Member:
    """A method at its place in a cascade.

    Attributes:
        slot: ``retriever``, ``ranker`` or ``reranker``.
        method: what stands there.
        variant: one of the method's variants.
        settings: what was changed, by dotted key.
    """

    slot: str
    method: Method
    variant: str
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """Method and, unless it is the default, variant."""
        return self.method.name if self.variant == "default" else f"{self.method.name}/{self.variant}"

    def config(self, trainer: dict[str, Any], *, data: str = "", seed: int = 0) -> RunConfig:
        """The complete configuration of this stage.

        Args:
            trainer: how the whole cascade is trained, by key of ``TrainerConfig``; the stage's own settings go before.
            data: the data set.
            seed: of the fit.
        """
        # Here, because a list of the methods must not wait for what composes configurations.
        from recascade.bench.config import compose, concerns

        common = {f"trainer.{key}": value for key, value in trainer.items() if concerns(self.method, f"trainer.{key}")}
        return compose(self.method, data=data, variant=self.variant, seed=seed, overrides={**common, **self.settings})


def _member(slot: str, stage: Stage, written: str, settings: Sequence[str]) -> Member:
    from recascade.settings import parse_overrides

    name, _, variant = written.partition("/")
    method = find_method(name)
    if stage not in method.stages:
        able = [each.name for each in installed_methods().values() if stage in each.stages]
        raise ConfigurationError(
            f"model.{slot} is {name!r}, which serves {' and '.join(method.stages)}, not {stage}; "
            f"methods for {stage} here: {', '.join(able) or 'none is installed'}."
        )
    variant = variant or "default"
    if variant not in method.variants:
        raise ConfigurationError(
            f"model.{slot} is {written!r}, but method {name!r} has no variant {variant!r}."
            f"{did_you_mean(variant, method.variants)}"
        )
    return Member(slot, method, variant, _qualified(parse_overrides(settings), slot))


def _qualified(settings: dict[str, Any], slot: str) -> dict[str, Any]:
    """Keys of the method's own configuration may stand without ``model.``."""
    qualified = {}
    for key, value in settings.items():
        section = key.partition(".")[0]
        if section in ("split", "evaluation"):
            raise ConfigurationError(
                f"model.{slot}_settings sets {key!r}, which holds for the whole cascade; set it outside of the list."
            )
        qualified[key if section in _SECTIONS else f"model.{key}"] = value
    return qualified
