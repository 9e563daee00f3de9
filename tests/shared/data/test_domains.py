"""Domains of items, targets of one domain, splits that a log carries, and domains from a column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mixed_domains import DOMAINS, mixed_log

from recascade.data.dataset import Dataset
from recascade.data.domains import with_domains
from recascade.data.encode import encode
from recascade.data.split import Split, cached_split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.popularity import Popularity


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return mixed_log(tmp_path_factory.mktemp("domains") / "log", users=40)


def split_of(log: Dataset, folder: Path, **rules: str) -> Split:
    return make_split(log, SplitConfig(**rules), folder / "-".join(["split", *rules.values()]))  # type: ignore[arg-type]


def changed(log: Dataset, folder: Path, *columns: pl.Expr) -> Dataset:
    folder.mkdir()
    log.interactions().with_columns(*columns).collect().write_parquet(folder / "interactions.parquet")
    return Dataset.open(folder)


def test_targets_of_all_domains_are_those_of_each(log: Dataset, tmp_path: Path) -> None:
    whole = split_of(log, tmp_path).part("test").filter("target").select("user_id", "item_id").collect()
    parts = [
        split_of(log, tmp_path, target_domain=name).part("test").filter("target").select("user_id", "item_id").collect()
        for name in DOMAINS
    ]
    together = pl.concat(parts).sort("user_id")
    known = split_of(log, tmp_path / "again").part("train").select("user_id", "domain").unique().collect()
    expected = whole.with_columns(domain=pl.col("item_id").str.split("-").list.first())
    assert together.equals(expected.join(known, on=["user_id", "domain"], how="semi").select(whole.columns))
    assert {len(part) > 0 for part in parts} == {True}


def test_a_target_domain_changes_targets_alone_and_the_fingerprint(log: Dataset, tmp_path: Path) -> None:
    plain, targeted = split_of(log, tmp_path), split_of(log, tmp_path, target_domain="tools")
    for part in ("train", "validation", "test"):
        one, other = (each.part(part).drop("target", strict=False).collect() for each in (plain, targeted))
        assert one.equals(other)
    assert plain.manifest.fingerprint != targeted.manifest.fingerprint


def test_only_items_of_the_target_domain_are_ranked(log: Dataset, tmp_path: Path) -> None:
    data = encode(split_of(log, tmp_path, target_domain="tools"))
    assert data.rankable is not None
    assert all(item.startswith("tools-") for item in data.items.decode(data.rankable))
    lists = evaluate(Popularity.fit(data), data, "test", EvaluationConfig()).lists
    assert np.isin(lists[lists >= 0], data.rankable).all()
    assert encode(split_of(log, tmp_path)).rankable is None


def test_users_need_training_events_in_the_target_domain(log: Dataset, tmp_path: Path) -> None:
    few = make_split(log, SplitConfig(target_domain="tools", minimum_history=4), tmp_path / "few")
    counts = few.part("train").filter(pl.col("domain") == "tools").group_by("user_id").len().collect()
    measured = few.part("test").filter("target").select("user_id").collect()
    assert measured.join(counts, on="user_id")["len"].min() >= 4  # type: ignore[operator]
    everyone = split_of(log, tmp_path, target_domain="tools").part("test").filter("target").collect()
    assert len(measured) < len(everyone)


def test_domains_are_read_again_as_they_were_written(log: Dataset, tmp_path: Path) -> None:
    split = split_of(log, tmp_path)
    first, second = encode(split).item_domains, encode(split).item_domains
    assert first is not None
    assert second is not None
    assert first.names == second.names == tuple(sorted(DOMAINS))
    assert np.array_equal(first.codes, second.codes)
    items = encode(split).items
    for name in DOMAINS:
        assert all(item.startswith(name) for item in items.decode(first.members(name)))


def test_an_unknown_domain_has_a_nearest_one(log: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"target_domain=tool .*Did you mean 'tools'"):
        split_of(log, tmp_path, target_domain="tool")
    domains = encode(split_of(log, tmp_path)).item_domains
    assert domains is not None
    with pytest.raises(ConfigurationError, match="Did you mean 'books'"):
        domains.members("book")


def test_a_log_without_domains_has_no_target_domain(log: Dataset, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    log.interactions().drop("domain").collect().write_parquet(tmp_path / "plain/interactions.parquet")
    plain = Dataset.open(tmp_path / "plain")
    with pytest.raises(DataError, match="needs a column 'domain'"):
        split_of(plain, tmp_path, target_domain="tools")
    assert encode(split_of(plain, tmp_path)).item_domains is None


def test_an_item_of_two_domains_is_refused(log: Dataset, tmp_path: Path) -> None:
    both = changed(log, tmp_path / "both", pl.col("item_id").str.split("-").list.last())
    with pytest.raises(DataError, match="stands in the domains 'books' and"):
        encode(split_of(both, tmp_path))


def test_an_item_without_a_domain_is_refused(log: Dataset, tmp_path: Path) -> None:
    domain = pl.when(pl.col("item_id") == "books-03").then(None).otherwise(pl.col("domain")).alias("domain")
    with pytest.raises(DataError, match="1 items have no domain, first 'books-03'"):
        encode(split_of(changed(log, tmp_path / "holes", domain), tmp_path))


def given_parts(*parts: str) -> pl.Expr:
    """The last events of each user in these parts, all before in training."""
    place = pl.int_range(pl.len()).over("user_id").cast(pl.Int32) - pl.len().over("user_id").cast(pl.Int32)
    expression = pl.lit("train")
    for number, part in enumerate(reversed(parts)):
        expression = pl.when(place == -1 - number).then(pl.lit(part)).otherwise(expression)
    return expression.alias("split_part")


def test_a_log_that_carries_its_split_is_split_by_it(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    carrying = changed(log, tmp_path / "given", given_parts("validation", "test"))
    split, plain = cached_split(carrying, SplitConfig()), split_of(log, tmp_path, ties="file")
    assert split.manifest.config.protocol == "given"
    for part in ("train", "validation", "test"):
        columns = ["user_id", "item_id", "position"]
        assert split.part(part).select(columns).collect().equals(plain.part(part).select(columns).collect())
    one, other = encode(split), encode(plain)
    assert np.array_equal(one.test.history_ends, other.test.history_ends)
    assert np.array_equal(one.validation.history_ends, other.validation.history_ends)


def test_history_is_known_but_not_trained_on(log: Dataset, tmp_path: Path) -> None:
    carrying = changed(log, tmp_path / "given", given_parts("history", "history", "validation", "test"))
    data, plain = encode(split_of(carrying, tmp_path)), encode(split_of(log, tmp_path, ties="file"))
    assert np.array_equal(data.train_lengths, plain.train_lengths - 2)
    assert np.array_equal(data.validation.history_ends, plain.validation.history_ends)
    assert np.array_equal(data.events.offsets, plain.events.offsets)
    assert len(data.validation.target_items) == len(plain.validation.target_items)


def test_parts_must_be_known_and_in_order(log: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'split_part' is 'tset'"):
        split_of(changed(log, tmp_path / "typo", given_parts("validation", "tset")), tmp_path)
    with pytest.raises(DataError, match="an event of part 'validation' behind one of part 'test'"):
        split_of(changed(log, tmp_path / "order", given_parts("test", "validation")), tmp_path)
    with pytest.raises(DataError, match="No event of data set 'none' has the part 'test'"):
        split_of(changed(log, tmp_path / "none", given_parts("validation")), tmp_path)


def test_a_log_that_carries_its_split_is_split_in_no_other_way(log: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="carries its split"):
        split_of(changed(log, tmp_path / "given", given_parts("validation", "test")), tmp_path, protocol="ratio")
    with pytest.raises(DataError, match="needs a column 'split_part'"):
        split_of(log, tmp_path, protocol="given")


def test_a_column_of_the_items_becomes_the_domain(log: Dataset, tmp_path: Path) -> None:
    items = log.interactions().select("item_id").unique().sort("item_id").collect()
    shop = changed(log, tmp_path / "shop", pl.lit("overwritten").alias("domain"))
    kinds = items.with_columns(kind=pl.col("item_id").str.split("-").list.first())
    kinds.write_parquet(shop.path / "items.parquet")
    made = with_domains(shop, "kind", tmp_path / "made", keep=("books", "tools"))
    events = made.interactions().collect()
    assert set(events["domain"]) == {"books", "tools"}
    assert (events["item_id"].str.split("-").list.first() == events["domain"]).all()
    assert encode(split_of(made, tmp_path)).item_domains is not None
    with pytest.raises(DataError, match="Did you mean 'kind'"):
        with_domains(shop, "kinds", tmp_path / "other")
    with pytest.raises(ConfigurationError, match="Did you mean 'books'"):
        with_domains(shop, "kind", tmp_path / "other", keep=("book",))
    with pytest.raises(DataError, match="exists and is not empty"):
        with_domains(shop, "kind", tmp_path / "made")
