from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recascade.bench.suite import configs_of, parse_suite, read_suite, shipped_suites
from recascade.cli.bench import command
from recascade.errors import ConfigurationError

SUITE = """
title: two methods
data: [one, other]
seeds: 2
split: {ties: group, protocol: last-basket}
evaluation: {exclude_seen: false}
trainer:
  max_epochs: 3
runs:
  - method: popularity
  - method: sasrec
    variant: sampled-softmax
    model: {dimension: 32, loss: {negatives: 8}}
    trainer: {learning_rate: 1e-2}
  - {method: gru4rec, seeds: 1}
"""


def test_every_run_is_done_on_every_data_set_with_its_seeds() -> None:
    configs = parse_suite(SUITE, "test").configs(data=None, seeds=None, overrides={})
    done = [(config.data, config.method, config.seed) for config in configs]
    on_one = [("one", "popularity", 0), ("one", "sasrec", 0), ("one", "sasrec", 1), ("one", "gru4rec", 0)]
    assert done == on_one + [("other", method, seed) for _, method, seed in on_one]


def test_common_settings_own_settings_and_overrides_in_this_order() -> None:
    configs = parse_suite(SUITE, "test").configs(data="third", seeds=1, overrides={"trainer.max_epochs": 9})
    sasrec = next(config for config in configs if config.method == "sasrec")
    assert {config.data for config in configs} == {"third"}
    assert {config.split.ties for config in configs} == {"group"}
    assert (sasrec.model.dimension, sasrec.model.loss.negatives, sasrec.model.loss.name) == (32, 8, "sampled_softmax")
    assert (sasrec.trainer.learning_rate, sasrec.trainer.max_epochs) == (0.01, 9)


def test_how_to_train_is_not_said_to_a_method_that_counts() -> None:
    popularity, *_ = parse_suite(SUITE, "test").configs(data=None, seeds=None, overrides={})
    assert popularity.trainer.max_epochs != 3


def test_a_re_ranking_rule_is_chosen_by_the_metric_of_the_suite() -> None:
    text = "data: log\ntrainer: {monitor: clicks@5, max_epochs: 3}\nruns: [{method: mmr}, {method: popularity}]\n"
    mmr, popularity = parse_suite(text, "test").configs(data=None, seeds=None, overrides={})
    assert (mmr.trainer.monitor, mmr.trainer.max_epochs) == ("clicks@5", 50)
    assert popularity.trainer.monitor == "ndcg@10"


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_are_valid(name: str) -> None:
    assert read_suite(name).configs(data=None, seeds=None, overrides={})


def test_the_help_names_all_shipped_suites() -> None:
    shown = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert f"that ships: {', '.join(shipped_suites())}." in shown


def test_the_small_suite_of_gr4ad_has_the_variants_of_the_large_one() -> None:
    large, small = ({(run.method, run.variant) for run in read_suite(name).runs} for name in ("gr4ad", "gr4ad-small"))
    assert large == small


def test_the_demo_is_next_basket_with_repeats_against_the_floors() -> None:
    demo = read_suite("demo")
    configs = demo.configs(data=None, seeds=None, overrides={})
    assert demo.data == ("completejourney",)
    assert demo.seeds >= 2
    methods = [config.method for config in configs]
    assert {"popularity", "personal-frequency", "item-knn", "dssm", "gru4rec", "sasrec", "hstu"} <= set(methods)
    rerankers = {config.model.reranker for config in configs if config.method == "cascade"}
    ours = {*methods, *rerankers, *(run.method for run in read_suite("demo-domains").runs)}
    assert {"taesar", "cs3", "gr4ad", "recast", "relaygr", "psad"} <= ours, "each method, as a run or as a stage"
    assert {(config.split.protocol, config.split.ties) for config in configs} == {("last-basket", "group")}
    assert not any(config.evaluation.exclude_seen for config in configs)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runs: [", "not YAML"),
        ("- a", "not a group of keys"),
        ("data: log\nrun: []", "unknown key 'run'. Did you mean 'runs'"),
        ("data: log\nruns: []", "has no runs"),
        ("runs: [{method: sasrec}]", "names no data"),
        ("data: log\nseeds: 0\nruns: [{method: sasrec}]", "seeds: 0"),
        ("data: log\nruns: [{methd: sasrec}]", "Run 1 of suite test has an unknown key 'methd'. Did you mean 'method'"),
        ("data: log\nruns: [{variant: default}]", "names no method"),
        ("data: log\nsplit: file\nruns: [{method: sasrec}]", "'split' that is not a group"),
    ],
)
def test_a_wrong_suite_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_suite(text, "test")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_suite_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'demo'"):
        read_suite("dmo")
    with pytest.raises(ConfigurationError, match="There is no suite file"):
        read_suite(str(tmp_path / "absent.yaml"))


def test_a_folder_is_remembered_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").mkdir()
    monkeypatch.chdir(tmp_path)
    assert configs_of("popularity", "log", "default", 1, {})[0].data == str(tmp_path / "log")
    assert configs_of("popularity", "ml-1m", "default", 1, {})[0].data == "ml-1m"
