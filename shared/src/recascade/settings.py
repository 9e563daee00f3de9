"""Sections of settings: dataclasses, checked by OmegaConf, overridden by dotted keys. Importable without torch."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recascade.errors import ConfigurationError, did_you_mean


def compose_sections(schema: Mapping[str, type], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """An instance of each section's dataclass: its defaults, then the overrides, in their order.

    A section whose dataclass has a method ``check()`` is asked to refuse values that are impossible together.

    Args:
        schema: name of the section → its dataclass.
        overrides: dotted key → value, as ``{"trainer.max_epochs": 5}``; a text is read as YAML where the setting is
            something else than a text.

    Raises:
        ConfigurationError: an unknown key, or a value of the wrong type; it names the nearest valid one.
    """
    tree = OmegaConf.create({name: OmegaConf.structured(section) for name, section in schema.items()})
    types_of_keys = {key: kind for name, section in schema.items() for key, kind in _leaf_types(section, f"{name}.")}
    for key, value in overrides.items():
        _set(tree, types_of_keys, key, value)
    sections: dict[str, Any] = {name: OmegaConf.to_object(tree[name]) for name in schema}
    for section in sections.values():
        if hasattr(section, "check"):
            section.check()
    return sections


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Dotted overrides as typed on the command line: texts, and lists of them; ``compose_sections`` reads them.

    >>> parse_overrides(["trainer.max_epochs=5", "evaluation.cutoffs=[5, 10]"])
    {'trainer.max_epochs': '5', 'evaluation.cutoffs': ['5', '10']}

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
    """The YAML value ``text`` of ``key``, in which every scalar is still a text: only the setting's type can tell
    whether ``010`` is a number or a name.

    Raises:
        ConfigurationError: it is not YAML, as ``[5,``.
    """
    try:
        return yaml.load(text, Loader=yaml.BaseLoader) if text.strip() else ""
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
    value = _read(value, types_of_keys[key])
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


def _read(value: Any, kind: Any) -> Any:
    """Texts as YAML reads them, but where the setting is a text itself and nothing else."""
    parts = get_args(kind)
    if isinstance(value, list):
        return [_read(member, parts[0] if parts else Any) for member in value]
    if not isinstance(value, str) or kind is str or get_origin(kind) is Literal:
        return value
    try:
        read = yaml.safe_load(value) if value.strip() else value
    except yaml.YAMLError:
        return value
    return value if read is not None and str in parts else read


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
        sections = dict.fromkeys(name.partition(".")[0] + "." for name in known)
        hint = f" Keys begin with {', '.join(sections)}."
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
