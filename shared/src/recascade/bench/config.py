"""The configuration of one run: dataclasses, checked by OmegaConf, overridden by dotted keys.

Importable without torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recascade.bench.registry import find_method
from recascade.contracts.method import Method
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.evaluation.config import EvaluationConfig
from recascade.files import write_atomically
from recascade.training.config import TrainerConfig

# They change how a run is watched or fed, not what it computes: two runs that differ only here are one run.
_WITHOUT_EFFECT = frozenset({"trainer.progress", "trainer.workers", "trainer.checkpoint_minutes"})


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
        evaluation: how to measure.
    """

    method: str
    variant: str
    seed: int
    data: str
    split: SplitConfig
    model: Any
    trainer: TrainerConfig
    evaluation: EvaluationConfig


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

    A section whose dataclass has a method ``check()`` is asked to refuse values that are impossible together.

    Raises:
        ConfigurationError: an unknown variant or key, or a value of the wrong type; it names the nearest valid one.
    """
    if variant not in method.variants:
        raise ConfigurationError(
            f"Method {method.name!r} has no variant {variant!r}.{did_you_mean(variant, method.variants)}"
        )
    schema = {
        "split": SplitConfig,
        "model": method.config,
        "trainer": TrainerConfig,
        "evaluation": EvaluationConfig,
    }
    tree = OmegaConf.create({name: OmegaConf.structured(section) for name, section in schema.items()})
    types_of_keys = {key: kind for name, section in schema.items() for key, kind in _leaf_types(section, f"{name}.")}
    from_variant = {f"model.{key}": value for key, value in method.variants[variant].items()}
    for key, value in [*from_variant.items(), *(overrides or {}).items()]:
        _set(tree, types_of_keys, key, value)
    sections: dict[str, Any] = {name: OmegaConf.to_object(tree[name]) for name in schema}
    for section in sections.values():
        if hasattr(section, "check"):
            section.check()
    return RunConfig(method=method.name, variant=variant, seed=seed, data=data, **sections)


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Dotted overrides as typed on the command line; the values are YAML.

    >>> parse_overrides(["trainer.max_epochs=5", "evaluation.cutoffs=[5, 10]"])
    {'trainer.max_epochs': 5, 'evaluation.cutoffs': [5, 10]}

    Raises:
        ConfigurationError: a text without ``=``, a key given twice, or a value that is not YAML.
    """
    overrides: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ConfigurationError(f"{text!r} is not an override; write key=value, as trainer.max_epochs=5.")
        if key in overrides:
            raise ConfigurationError(f"The key {key!r} is given twice; leave one of them out.")
        overrides[key] = parse_value(key, value)
    return overrides


def parse_value(key: str, text: str) -> Any:
    """The YAML value ``text`` of ``key``; nothing at all is the empty text, ``null`` is None.

    Raises:
        ConfigurationError: it is not YAML, as ``[5,``.
    """
    try:
        return yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError as error:
        raise ConfigurationError(f"The value {text!r} of {key!r} cannot be read; write it as YAML.") from error


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of dotted keys.

    >>> flatten({"trainer": {"max_epochs": 5}, "model.blocks": 2})
    {'trainer.max_epochs': 5, 'model.blocks': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_dictionary(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested dictionaries, ready for YAML or JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def changes(config: RunConfig) -> dict[str, Any]:
    """What was changed against the variant's defaults, by dotted key.

    The split is left out: its fingerprint speaks for it.
    """
    base = compose(find_method(config.method), data=config.data, variant=config.variant, seed=config.seed)
    defaults = flatten(as_dictionary(base))
    return {
        key: value
        for key, value in flatten(as_dictionary(config)).items()
        if not key.startswith("split.") and key not in _WITHOUT_EFFECT and value != defaults.get(key)
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
        if key not in _WITHOUT_EFFECT and first.get(key) != second.get(key)
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
        name, variant, seed, data = (stored[key] for key in ("method", "variant", "seed", "data"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the configuration of a run; delete its folder and run again.") from error
    return compose(find_method(name), data=data, variant=variant, seed=seed, overrides=flatten(sections))


def _leaf_types(section: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(section)
    for item in dataclasses.fields(section):
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _leaf_types(kind, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", kind


def _set(tree: DictConfig, types_of_keys: Mapping[str, Any], key: str, value: Any) -> None:
    if key not in types_of_keys:
        raise ConfigurationError(_unknown_key(key, list(types_of_keys)))
    wrong = ConfigurationError(f"{key} must be {_in_words(types_of_keys[key])}, but {_as_typed(value)} was given.")
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong
    try:
        OmegaConf.update(tree, key, value, merge=False)
        converted = OmegaConf.select(tree, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise wrong from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise wrong


def _unknown_key(key: str, known: list[str]) -> str:
    members = [name for name in known if name.startswith(f"{key}.")]
    if members:
        return f"{key!r} is a group of keys; set one of them: {', '.join(members)}."
    qualified = [name for name in known if name.endswith(f".{key}")]
    if qualified:
        return f"There is no configuration key {key!r}. Did you mean {' or '.join(map(repr, qualified))}?"
    section = key.partition(".")[0] + "."
    neighbours = [name for name in known if name.startswith(section)]
    hint = did_you_mean(key, neighbours or known)
    if not neighbours and not hint.startswith(" Did"):
        hint = " Keys begin with split., model., trainer. or evaluation.; 'recascade methods METHOD' lists them."
    return f"There is no configuration key {key!r}.{hint}"


def _in_words(kind: Any) -> str:
    """What a value of a type annotation looks like, for a message."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _in_words(part) for part in arguments)
    if origin in (list, tuple, Sequence):
        return f"a list, each member {_in_words(arguments[0])}" if arguments else "a list"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    return names.get(kind, str(kind))


def _as_typed(value: Any) -> str:
    return repr(value) if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def describe_keys(config: RunConfig) -> dict[str, Any]:
    """All keys that can be overridden, with the values of ``config``."""
    sections = {name: value for name, value in as_dictionary(config).items() if isinstance(value, dict)}
    return flatten(sections)
