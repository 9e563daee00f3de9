"""How a method introduces itself to the command line and the benchmark. Importable without torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recascade.errors import ConfigurationError

if TYPE_CHECKING:
    from recascade.contracts.hinted_ranker import HintedRanker
    from recascade.contracts.reranker import Reranker
    from recascade.contracts.retriever import Retriever
    from recascade.data.encoded import EncodedSplit
    from recascade.data.reranking_lists import RerankingLists
    from recascade.data.split import Split
    from recascade.training.config import TrainerConfig

Stage = Literal["data", "retrieval", "ranking", "re-ranking", "cascade"]
Need = Literal["times", "texts", "domains"]
"""What some methods cannot do without: events with timestamps, items with a column ``text``, a column ``domain``."""

FIT_FILE = "fit.json"
"""A trained method may leave this file in its run directory, with the facts of its training that the result should
carry: ``epochs``, ``best_epoch``, ``parameters``, ``targets_per_second``, and ``fit_seconds`` and ``fit_cpu_seconds``
where an interrupted and resumed training must count all its sessions."""


@dataclass(frozen=True)
class Experiment:
    """All that a method's ``fit`` is given: its own configuration, the common ones, the data, and a place to write.

    Attributes:
        config: an instance of the method's configuration dataclass.
        trainer: how to train, the same fields for every method.
        data: the encoded split; its test part is there for the evaluator, not for ``fit``.
        split: the split on disk, for what the encoded form leaves out, such as the texts of items.
        seed: every random choice of the fit derives from it.
        directory: the run directory, for checkpoints, weights and logs; an interrupted fit resumes from what it left
            there.
        exclude_seen: whether the evaluation will leave a user's own items out of the lists, so that validation inside
            the fit can do the same.
        shared: a folder that all runs on this split have in common, for parts that several of them need; None where
            there is none.
    """

    config: Any
    trainer: TrainerConfig
    data: EncodedSplit
    split: Split
    seed: int
    directory: Path
    exclude_seen: bool = False
    shared: Path | None = None


@dataclass(frozen=True)
class RerankingExperiment:
    """All that a re-ranker's ``fit`` is given, as ``Experiment`` is for the other stages.

    Attributes:
        config: an instance of the method's configuration dataclass.
        trainer: how to train, the same fields for every method.
        lists: the candidate lists; those of the test part are there for the evaluator, not for ``fit``.
        seed: every random choice of the fit derives from it.
        directory: where to write; an interrupted fit resumes from what it left there.
    """

    config: Any
    trainer: TrainerConfig
    lists: RerankingLists
    seed: int
    directory: Path


@dataclass(frozen=True)
class Method:
    """One entry of the registry, found through the entry-point group ``recascade.methods``.

    Attributes:
        name: as typed on the command line.
        stage: the stage of the cascade it serves.
        summary: one line for ``recascade methods``.
        config: its configuration dataclass (a module that does not import torch).
        fit: ``"package.module:function"``, imported only when the method runs; the function takes an ``Experiment``
            and returns what serves the stage (a ``Retriever``; for ranking one that is itself a ``Ranker`` or has one
            as its attribute ``ranker``), or for the stage ``re-ranking`` a ``RerankingExperiment`` and returns a
            ``Reranker``.
        variants: name → overrides of ``config`` by dotted key; the empty override ``{"default": {}}`` is always there.
        baselines: names of the methods it should be compared with.
        axes: ablation axes, name of the configuration key → values worth trying.
        trained: False for counting methods, which have no epochs and no randomness (one seed says all).
        source: where the method comes from (paper, release), for the report.
        serve: ``"package.module:function"``, imported only by ``recascade serve``; the function takes the run directory
            (a ``Path``) and the settings of the command (dotted key → value) and returns an ASGI application. Empty for
            methods that do not serve.
        commands: ``"package.module:group"``, a ``click.Group`` that becomes ``recascade NAME``, for what a method does
            beside fitting and serving; the module imports nothing heavy. Empty for most.
        provides: further stages of a cascade that what ``fit`` returns can serve: a retriever whose score of a single
            item is cheap (``score``, see ``recascade.contracts.ranker``) also provides ``ranking``.
        live: ``"package.module:function"`` for a ranker that works otherwise in a service than in a batch; the function
            takes what ``fit`` returned, the number of items and the seconds that a ranking may take, and returns a
            ``recascade.contracts.hinted_ranker.HintedRanker``. Empty for most.
        needs: what the data must have; a run on data without it is refused before anything is computed.
    """

    name: str
    stage: Stage
    summary: str
    config: type
    fit: str
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})
    baselines: Sequence[str] = ()
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trained: bool = True
    source: str = ""
    serve: str = ""
    commands: str = ""
    provides: Sequence[Stage] = ()
    live: str = ""
    needs: Sequence[Need] = ()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages of a cascade that the method can serve."""
        return (self.stage, *self.provides)

    def run(self, experiment: Experiment) -> Retriever:
        """Import the ``fit`` function and call it."""
        fitted: Retriever = self._function("fit", self.fit)(experiment)
        return fitted

    def run_on_lists(self, experiment: RerankingExperiment) -> Reranker:
        """Import the ``fit`` function of a re-ranker and call it."""
        fitted: Reranker = self._function("fit", self.fit)(experiment)
        return fitted

    def application(self, directory: Path, options: Mapping[str, Any]) -> Any:
        """Import the ``serve`` function and call it: the ASGI application that answers from a run directory.

        Raises:
            ConfigurationError: the method does not serve.
        """
        if not self.serve:
            raise ConfigurationError(f"Method {self.name!r} has no service.")
        return self._function("serve", self.serve)(directory, options)

    def live_ranker(self, fitted: Any, items: int, budget: float) -> HintedRanker:
        """Import the ``live`` function and call it with what was fitted, the size of the catalogue and the seconds that
        a ranking may take."""
        ranker: HintedRanker = self._function("live", self.live)(fitted, items, budget)
        return ranker

    def command_group(self) -> Any:
        """Import the ``click.Group`` of the method's own commands; None where it has none."""
        return self._function("commands", self.commands) if self.commands else None

    def _function(self, role: str, reference: str) -> Callable[..., Any]:
        module, _, name = reference.partition(":")
        try:
            function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"Method {self.name!r} names {reference!r} for {role!r}, but it cannot be imported "
                f"({error}). Reinstall the package that registers it."
            ) from error
        return function
