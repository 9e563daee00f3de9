"""The configuration of one run: dataclasses, checked by OmegaConf, overridden by dotted keys.

Importable without torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from recascade.bench.registry import find_method
from recascade.contracts.method import Method
from recascade.data.reranking_config import ListsConfig
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.files import write_atomically
from recascade.settings import compose_sections, flatten
from recascade.training.config import TrainerConfig

WITHOUT_EFFECT = frozenset({"trainer.progress", "trainer.workers", "trainer.checkpoint_minutes"})
"""They change how a run is watched or fed, not what it computes: two runs that differ only here are one run."""

MONITOR = "trainer.monitor"

RERANKING_SPLIT: Mapping[str, Any] = MappingProxyType(
    {
        "split.protocol": "temporal",
        "split.targets": "all",
        "split.validation_fraction": 0.4,
        "split.test_fraction": 0.1,
    }
)
"""How re-ranking splits unless told otherwise: the first half of the log teaches the earlier stage, the events between
it and the test part are the re-ranker's own."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of one run.

    Attributes:
        method: name in the registry.
        variant: one of the method's variants.
        seed: seed of every random choice of the fit.
        data: a data set's name, or the path of its folder.
        split: how the events are split; it decides the fingerprint, whatever the method.
        model: an instance of the method's own configuration dataclass.
        trainer: how to train.
        evaluation: how to measure: an ``EvaluationConfig``, or for the stage ``re-ranking`` a ``ListEvaluationConfig``.
        lists: for the stage ``re-ranking``, how candidate lists come about; None for the others.
    """

    method: str
    variant: str
    seed: int
    data: str
    split: SplitConfig
    model: Any
    trainer: TrainerConfig
    evaluation: Any
    lists: ListsConfig | None = None


def compose(
    method: Method,
    *,
    data: str,
    variant: str = "default",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a run: the defaults, then the variant, then the overrides.

    Args:
        method: the method to run.
        data: a data set's name or path.
        variant: name of one of the method's variants.
        seed: seed of the run.
        overrides: dotted key → value, as ``{"trainer.max_epochs": 5}``.

    A section whose dataclass has a method ``check()`` is asked to refuse values that are impossible together, and the
    method's own, where it has a method ``check_trainer(trainer)``, to refuse what it cannot be trained by.

    Raises:
        ConfigurationError: an unknown variant or key, or a value of the wrong type; it names the nearest valid one.
    """
    if variant not in method.variants:
        raise ConfigurationError(
            f"Method {method.name!r} has no variant {variant!r}.{did_you_mean(variant, method.variants)}"
        )
    reranking = method.stage == "re-ranking"
    schema = {
        "split": SplitConfig,
        "model": method.config,
        "trainer": TrainerConfig,
        "evaluation": ListEvaluationConfig if reranking else EvaluationConfig,
    }
    if reranking:
        schema["lists"] = ListsConfig
    from_stage = RERANKING_SPLIT if reranking else {}
    from_variant = {f"model.{key}": value for key, value in method.variants[variant].items()}
    sections = compose_sections(schema, {**from_stage, **from_variant, **(overrides or {})})
    if hasattr(sections["model"], "check_trainer"):
        sections["model"].check_trainer(sections["trainer"])
    return RunConfig(method=method.name, variant=variant, seed=seed, data=data, **sections)


def concerns(method: Method, key: str) -> bool:
    """Whether a setting for many methods means something to this one: how to train, to those that are trained; but
    re-rankers that are not may choose a rule by ``trainer.monitor``."""
    return method.trained or not key.startswith("trainer.") or (key == MONITOR and method.stage == "re-ranking")


def as_dictionary(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested dictionaries, ready for YAML or JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return {key: value for key, value in plain.items() if value is not None}


def changes(config: RunConfig) -> dict[str, Any]:
    """What was changed against the variant's defaults, by dotted key.

    The split and the lists are left out: the fingerprint speaks for them.
    """
    base = compose(find_method(config.method), data=config.data, variant=config.variant, seed=config.seed)
    defaults = flatten(as_dictionary(base))
    return {
        key: value
        for key, value in flatten(as_dictionary(config)).items()
        if not key.startswith(("split.", "lists.")) and key not in WITHOUT_EFFECT and value != defaults.get(key)
    }


def folder_name(config: RunConfig) -> str:
    """The variant's name, followed by eight hexadecimal digits of the changes when there are any."""
    changed = changes(config)
    if not changed:
        return config.variant
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
    return f"{config.variant}-{digest[:8]}"


def same_run(one: RunConfig, other: RunConfig) -> list[str]:
    """The dotted keys in which two configurations differ in a way that matters; none when they are the same run."""
    first, second = flatten(as_dictionary(one)), flatten(as_dictionary(other))
    return [
        key
        for key in sorted(first.keys() | second.keys())
        if key not in WITHOUT_EFFECT and first.get(key) != second.get(key)
    ]


def save(config: RunConfig, path: Path) -> None:
    """Write the complete configuration as YAML, atomically."""
    text = yaml.safe_dump(as_dictionary(config), sort_keys=False, allow_unicode=True)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load(path: Path) -> RunConfig:
    """Read what ``save`` wrote.

    Raises:
        DataError: there is no such file, or it is not the configuration of a run.
        ConfigurationError: it names a method or key that this installation does not have.
    """
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        sections = {name: stored.pop(name) for name in ("split", "model", "trainer", "evaluation")}
        if "lists" in stored:
            sections["lists"] = stored.pop("lists")
        name, variant, seed, data = (stored[key] for key in ("method", "variant", "seed", "data"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the configuration of a run; delete its folder and run again.") from error
    return compose(find_method(name), data=data, variant=variant, seed=seed, overrides=flatten(sections))


def describe_keys(config: RunConfig) -> dict[str, Any]:
    """All keys that can be overridden, with the values of ``config``."""
    sections = {name: value for name, value in as_dictionary(config).items() if isinstance(value, dict)}
    return flatten(sections)
