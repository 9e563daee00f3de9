from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recascade.bench.config import (
    changes,
    compose,
    folder_name,
    load,
    same_run,
    save,
)
from recascade.bench.registry import find_method
from recascade.contracts.method import Method
from recascade.errors import ConfigurationError, DataError
from recascade.settings import flatten, parse_overrides

SASREC = find_method("sasrec")

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model.dimension": st.integers(1, 512),
    "model.dropout": st.floats(0, 0.99),
    "model.loss.name": st.sampled_from(["full_softmax", "sampled_softmax", "binary_cross_entropy"]),
    "trainer.max_epochs": st.integers(1, 10_000),
    "trainer.learning_rate": st.floats(1e-9, 10),
    "trainer.compile": st.booleans(),
    "evaluation.cutoffs": st.lists(st.integers(1, 100), min_size=1, max_size=4),
    "evaluation.exclude_seen": st.booleans(),
    "split.ties": st.sampled_from(["shuffle", "group", "file"]),
    "split.item_min_events": st.integers(0, 20),
}
overrides_of_sasrec = st.fixed_dictionaries({}, optional=VALUES)


@dataclass
class Inner:
    rate: float = 0.5


@dataclass
class Odd:
    sizes: list[int] = field(default_factory=lambda: [1])
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=list)
    choice: str | None = None
    anything: Any = 0
    quoted: str = ""


ODD = Method(name="odd", stage="retrieval", summary="", config=Odd, fit="nowhere:fit", variants={"default": {}})


@given(overrides=overrides_of_sasrec)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_is_loaded(tmp_path: Path, overrides: dict[str, Any]) -> None:
    config = compose(SASREC, data="log", seed=3, overrides=overrides)
    save(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config


@given(overrides=overrides_of_sasrec, data=st.data())
@settings(max_examples=20)
def test_the_folder_depends_on_the_settings_and_not_on_their_order(overrides: dict[str, Any], data: Any) -> None:
    shuffled = dict(data.draw(st.permutations(list(overrides.items()))))
    one, other = (compose(SASREC, data="log", overrides=chosen) for chosen in (overrides, shuffled))
    assert folder_name(one) == folder_name(other)


@given(one=overrides_of_sasrec, other=overrides_of_sasrec)
@settings(max_examples=20)
def test_different_settings_have_different_folders(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (compose(SASREC, data="log", overrides=chosen) for chosen in (one, other))
    differ = [key for key in same_run(first, second) if not key.startswith("split.")]
    assert (folder_name(first) == folder_name(second)) == (not differ)


@given(overrides=overrides_of_sasrec)
@settings(max_examples=20)
def test_the_changes_alone_restore_the_configuration(overrides: dict[str, Any]) -> None:
    config = compose(SASREC, data="log", overrides=overrides)
    split = {key: value for key, value in overrides.items() if key.startswith("split.")}
    assert compose(SASREC, data="log", overrides=changes(config) | split) == config


def test_a_value_that_is_the_default_is_no_change() -> None:
    config = compose(SASREC, data="log", overrides={"model.dimension": 64, "trainer.max_epochs": 50})
    assert changes(config) == {}
    assert folder_name(config) == "default"


def test_the_variant_is_no_change_and_can_be_overridden() -> None:
    variant = compose(SASREC, data="log", variant="sampled-softmax")
    assert variant.model.loss.name == "sampled_softmax"
    assert changes(variant) == {}
    back = compose(SASREC, data="log", variant="sampled-softmax", overrides={"model.loss.name": "full_softmax"})
    assert changes(back) == {"model.loss.name": "full_softmax"}


@pytest.mark.parametrize("key", ["trainer.progress", "trainer.workers", "trainer.checkpoint_minutes"])
def test_how_a_run_is_watched_does_not_make_it_another_run(key: str) -> None:
    one = compose(SASREC, data="log", overrides={key: 0})
    assert changes(one) == {}
    assert same_run(one, compose(SASREC, data="log")) == []


def test_the_split_is_not_a_change_but_another_run() -> None:
    config = compose(SASREC, data="log", overrides={"split.ties": "file"})
    assert changes(config) == {}
    assert same_run(config, compose(SASREC, data="log")) == ["split.ties"]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model.dimensoin", 3, "no configuration key 'model.dimensoin'. Did you mean 'model.dimension'"),
        ("dimension", 3, "Did you mean 'model.dimension'"),
        ("max_epoch", 3, "Did you mean 'trainer.max_epochs'"),
        ("zzzz", 3, "Keys begin with split., model., trainer., evaluation."),
        ("model.loss", "bce", "'model.loss' is a group of keys; set one of them: model.loss.name"),
        ("trainer.max_epochs", "many", "trainer.max_epochs must be a whole number, but 'many' was given"),
        ("trainer.max_epochs", 2.5, "trainer.max_epochs must be a whole number, but 2.5 was given"),
        ("trainer.max_epochs", None, "trainer.max_epochs must be a whole number, but null was given"),
        ("trainer.learning_rate", float("nan"), "trainer.learning_rate must be a finite number"),
        ("trainer.learning_rate", "nan", "trainer.learning_rate must be a finite number"),
        ("trainer.learning_rate", -1.0, "trainer.learning_rate"),
        ("trainer.compile", "perhaps", "trainer.compile must be true or false, but 'perhaps' was given"),
        ("evaluation.cutoffs", 5, "evaluation.cutoffs must be a list, each member a whole number, but 5 was given"),
        ("evaluation.cutoffs", [0], "evaluation.cutoffs"),
        ("split.ties", "shufle", "Did you mean 'shuffle'"),
        ("model.heads", 3, "model.dimension is 64 and model.heads is 3"),
        ("model.loss.name", "softmax", "full_softmax"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        compose(SASREC, data="log", overrides={key: value})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_variant_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'sampled-softmax'"):
        compose(SASREC, data="log", variant="sampled_softmax")


def test_lists_optional_values_and_nested_groups() -> None:
    overrides = {"model.sizes": [3, 4], "model.limit": 5, "model.inner.rate": "1e-3"}
    model = compose(ODD, data="log", overrides=overrides).model
    assert model == Odd(sizes=[3, 4], limit=5, inner=Inner(rate=0.001))
    with pytest.raises(ConfigurationError, match=r"model\.limit must be a whole number or null, but 'x' was given"):
        compose(ODD, data="log", overrides={"model.limit": "x"})


def test_overrides_as_typed() -> None:
    typed = [
        "model.dimension=32",
        "trainer.learning_rate=1e-3",
        "evaluation.cutoffs=[5, 10]",
        "split.since=",
        "a.b=x=y",
    ]
    assert parse_overrides(typed) == {
        "model.dimension": "32",
        "trainer.learning_rate": "1e-3",
        "evaluation.cutoffs": ["5", "10"],
        "split.since": "",
        "a.b": "x=y",
    }


@pytest.mark.parametrize("text", ["010", "NO", "12:30", "1.10", "0x10", "1_000", "2017-06-01", "null", "books"])
def test_a_setting_that_is_a_text_takes_it_as_typed(text: str) -> None:
    overrides = parse_overrides([f"split.target_domain={text}", f"model.names=[{text}]", f"model.choice={text}"])
    config = compose(ODD, data="log", overrides=overrides)
    assert config.split.target_domain == text
    assert config.model.names == [text]
    assert config.model.choice == (None if text == "null" else text)


def test_other_settings_are_read_by_their_type() -> None:
    typed = ["sizes=[3, 4]", "limit=null", "inner.rate=1e-3", "anything=5", "quoted='a, b'"]
    model = compose(ODD, data="log", overrides=parse_overrides([f"model.{text}" for text in typed])).model
    assert model == Odd(sizes=[3, 4], limit=None, inner=Inner(rate=0.001), anything=5, quoted="a, b")
    read = compose(SASREC, data="log", overrides=parse_overrides(["trainer.compile=yes", "trainer.max_epochs=7"]))
    assert read.trainer.compile is True and read.trainer.max_epochs == 7


@pytest.mark.parametrize("text", ["model.dimension", "=3", "model.x=[1,", "--epochs"])
def test_text_that_is_no_override_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_overrides([text])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        parse_overrides(["model.dimension=3", "model.dimension=4"])


def test_flatten_leaves_lists_whole() -> None:
    assert flatten({"a": {"b": {"c": [1, 2]}}, "d.e": 1}) == {"a.b.c": [1, 2], "d.e": 1}


@pytest.mark.parametrize("text", ["", "method: sasrec\n", "- a\n", "a: [", "method: {\n"])
def test_a_damaged_configuration_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="is not the configuration of a run"):
        load(path)
