"""What ads are worth: aligned with the events, from training alone, labelled where invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from gr4ad_runs import Prepared, prepare

from recascade.contracts.context import Context
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.errors import ConfigurationError, DataError
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.training.config import TrainerConfig
from recascade_gr4ad.ad_batches import AdData, event_worth
from recascade_gr4ad.ad_simulator import CLONE_MARK, simulate_ads, with_ads
from recascade_gr4ad.ad_values import ad_values
from recascade_gr4ad.config import ValuesConfig
from recascade_gr4ad.conversion_teacher import ConversionTeacher
from recascade_gr4ad.value_buckets import ValueBuckets

LOGGED = ("user_id", "item_id", "position", "value")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Events with the price paid, in baskets."""
    return prepare(tmp_path_factory.mktemp("priced"), prices=True, basket_size=2.0, ties="group")


def test_values_stand_with_their_events(priced: Prepared) -> None:
    split, data = priced
    values = ad_values(data, split, ValuesConfig(), seed=0)
    assert values is not None and values.source == "column" and not values.deep.any()
    logged = pl.concat([split.part(name).select(LOGGED).collect() for name in ("train", "validation")]).sort(
        "user_id", "position"
    )
    for user in ("u03", "u41"):
        row = int(data.users.encode([user])[0])
        places = slice(int(data.events.offsets[row]), int(data.events.offsets[row + 1]))
        expected = logged.filter(pl.col("user_id") == user)
        assert data.items.decode(data.events.items[places]) == expected["item_id"].to_list()
        assert values.events[places].tolist() == expected["value"].to_list()


def test_targets_carry_the_value_of_their_own_event(priced: Prepared) -> None:
    split, data = priced
    values = ad_values(data, split, ValuesConfig(), seed=0)
    assert values is not None
    edges = ValueBuckets.fit(values.events, 5)
    worth = event_worth(data, values, edges, ValuesConfig(buckets=5))
    ads = AdData(data, worth, TrainerConfig(), max_length=10, seed=0)
    batch = ads.training_batch(np.arange(0, len(ads.prefixes.windows.users), 7))
    # A price belongs to an item up to a discount of a tenth.
    price = split.items().select("item_id", "price").collect()
    known = dict(price.iter_rows())
    for item, bucket in zip(batch.requests.targets.tolist(), batch.buckets.tolist(), strict=True):
        full = known[data.items.decode([item])[0]]
        assert bucket in {int(edges.of(np.array([round(full * share, 2)]))[0]) for share in (1.0, 0.9)}
    assert len(batch.weights) == len(batch.requests.targets)


def test_sales_are_net_of_coupons(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=30, items=20, prices=True, seed=1)
    frame = log.interactions().collect().rename({"value": "sales_value"})
    frame = frame.with_columns(coupon_disc=pl.lit(0.5), coupon_match_disc=pl.lit(0.0))
    frame.write_parquet(log.path / "interactions.parquet")
    split = make_split(Dataset.open(log.path), SplitConfig(), tmp_path / "split")
    data = encode(split)
    values = ad_values(data, split, ValuesConfig(), seed=0)
    assert values is not None and values.source == "sales"
    paid = split.part("train").select("sales_value").collect()["sales_value"].to_numpy()
    trained = np.concatenate([values.events[o:e] for o, e in zip(data.events.offsets, data.train_ends, strict=False)])
    assert sorted(trained) == pytest.approx(sorted(np.maximum(paid - 0.5, 0)))


@pytest.mark.parametrize("bad", [-1.0, float("inf")])
def test_impossible_values_are_refused(tmp_path: Path, bad: float) -> None:
    log = markov_log(tmp_path / "log", users=30, items=20, prices=True, seed=1)
    frame = (
        log.interactions()
        .collect()
        .with_columns(value=pl.when(pl.int_range(pl.len()) == 0).then(bad).otherwise("value"))
    )
    frame.write_parquet(log.path / "interactions.parquet")
    split = make_split(Dataset.open(log.path), SplitConfig(), tmp_path / "split")
    with pytest.raises(DataError, match="negative or infinite 'value'"):
        ad_values(encode(split), split, ValuesConfig(), seed=0)


def test_values_that_are_not_numbers_are_unknown(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=30, items=20, prices=True, seed=1)
    frame = (
        log.interactions()
        .collect()
        .with_columns(value=pl.when(pl.int_range(pl.len()) % 3 == 0).then(float("nan")).otherwise("value"))
    )
    frame.write_parquet(log.path / "interactions.parquet")
    split = make_split(Dataset.open(log.path), SplitConfig(), tmp_path / "split")
    data = encode(split)
    values = ad_values(data, split, ValuesConfig(), seed=0)
    assert values is not None and torch.isfinite(values.bids).all()
    worth = event_worth(data, values, ValueBuckets.fit(values.events[~np.isnan(values.events)], 4), ValuesConfig())
    assert np.array_equal(worth.buckets < 0, np.isnan(values.events)) and np.isfinite(worth.weights).all()


def test_a_missing_column_is_named(prepared: Prepared) -> None:
    for settings, name in (
        (ValuesConfig(source="column", column="paid"), "paid"),
        (ValuesConfig(source="sales"), "sa"),
    ):
        with pytest.raises(DataError, match=f"no column '{name}"):
            ad_values(prepared.data, prepared.split, settings, seed=0)
    with pytest.raises(DataError, match="'recascade gr4ad simulate'"):
        ad_values(prepared.data, prepared.split, ValuesConfig(source="catalogue"), seed=0)


def test_simulated_values_are_synthetic_seeded_and_those_of_the_reward_model(prepared: Prepared) -> None:
    split, data = prepared
    values, again, other = (ad_values(data, split, ValuesConfig(), seed=seed) for seed in (0, 0, 1))
    assert values is not None and again is not None and other is not None
    assert values.source == "simulated" and values.synthetic
    assert np.array_equal(values.events, again.events) and not np.array_equal(values.events, other.events)
    assert 0 < values.deep.mean() < 1
    longest = int(data.events.lengths.argmax())
    assert data.events.lengths[longest] > 25
    last = int(data.events.offsets[longest + 1]) - 1
    for event in (int(data.events.offsets[5]), int(data.events.offsets[9]) + 4, last):
        user = int(np.searchsorted(data.events.offsets, event, side="right") - 1)
        before = torch.from_numpy(np.array(data.events.items[data.events.offsets[user] : event], dtype=np.int64))
        context = Context(torch.tensor([user]), before, torch.zeros_like(before), torch.tensor([0, len(before)]))
        expected = values.expected(context, torch.tensor([[int(data.events.items[event])]]))
        assert values.events[event] == pytest.approx(float(expected), rel=1e-5)


def test_the_teacher_knows_only_training_events_and_likes_what_goes_together(prepared: Prepared) -> None:
    data = prepared.data
    teacher = ConversionTeacher.fit(data, 16, seed=0)
    from dataclasses import replace

    moved = np.array(data.events.items)
    moved[np.asarray(data.train_ends)] = 0
    same = ConversionTeacher.fit(replace(data, events=replace(data.events, items=moved)), 16, seed=0)
    torch.testing.assert_close(teacher.vectors, same.vectors)
    rates = teacher.rates(requests_with(data, [3, 4]), torch.arange(40).expand(2, -1))
    assert rates.shape == (2, 40) and (rates > 0).all() and (rates < 1).all()
    logged = teacher.logged_rates(data)
    random = np.random.default_rng(0).permutation(data.events.items)
    shuffled = teacher.logged_rates(replace(data, events=replace(data.events, items=random)))
    assert logged.mean() > 1.2 * shuffled.mean()


def requests_with(data, users: list[int]) -> Context:
    histories = [data.events.items[data.events.offsets[u] : data.train_ends[u]] for u in users]
    items = torch.from_numpy(np.concatenate(histories).astype(np.int64))
    offsets = torch.tensor([0, *np.cumsum([len(h) for h in histories]).tolist()])
    return Context(torch.tensor(users), items, torch.zeros_like(items), offsets)


def test_weights_have_a_mean_of_one_over_training_events_and_deep_actions_weigh_more(prepared: Prepared) -> None:
    split, data = prepared
    values = ad_values(data, split, ValuesConfig(), seed=0)
    assert values is not None
    worth = event_worth(data, values, None, ValuesConfig(user_weights=False))
    trained = np.concatenate([np.arange(o, e) for o, e in zip(data.events.offsets, data.train_ends, strict=False)])
    assert worth.weights[trained].mean() == pytest.approx(1.0, abs=1e-6)
    ratio = worth.weights[values.deep].mean() / worth.weights[trained][~values.deep[trained]].mean()
    assert ratio == pytest.approx(3.0)
    assert (worth.buckets == -1).all()
    nothing = event_worth(data, None, None, ValuesConfig())
    assert (nothing.weights == 1).all() and (nothing.user_values == 0).all()


def test_behaviours_of_the_log_decide_what_is_deep(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=30, items=20, seed=1, features=True)
    frame = log.interactions().collect()
    frame = frame.with_columns(
        behaviour=pl.when(pl.col("item_id") == "i07").then(pl.lit("purchase")).otherwise(pl.lit("click"))
    )
    frame.write_parquet(log.path / "interactions.parquet")
    split = make_split(Dataset.open(log.path), SplitConfig(), tmp_path / "split")
    data = encode(split)
    values = ad_values(data, split, ValuesConfig(behaviour_column="behaviour"), seed=0)
    assert values is not None
    assert np.array_equal(values.deep, np.asarray(data.events.items) == data.items.encode(["i07"])[0])


def test_ads_do_not_depend_on_which_others_there_are(prepared: Prepared) -> None:
    table = prepared.split.items()
    assert table is not None
    items = table.collect()
    whole, part = with_ads(items, 0), with_ads(items.tail(15), 0)
    assert whole.tail(15).equals(part)
    assert (whole["bid"] > 0).all() and set(whole["conversion_type"].unique()) <= {0, 1, 2, 3}
    spread = whole["bid"].log().std()
    assert spread is not None and 0.4 < spread < 1.2


def test_a_simulated_data_set_says_so_and_its_clones_differ_in_business_fields_alone(
    prepared: Prepared, tmp_path: Path
) -> None:
    log = Dataset.open(prepared.split.path.parent / "log")
    assert simulate_ads(log, tmp_path / "all", clones=1.0, seed=3).facts["simulated"]["clones"] == 40
    ads = simulate_ads(log, tmp_path / "ads", clones=0.5, seed=3)
    assert ads.synthetic and "synthetic" in ads.name
    items = ads.items()
    assert items is not None
    rows = {row["item_id"]: row for row in items.collect().iter_rows(named=True)}
    clones = [name for name in rows if name.endswith(CLONE_MARK)]
    assert 8 <= len(clones) <= 32 and ads.facts["simulated"]["clones"] == len(clones)
    for name in clones:
        clone, original = rows[name], rows[name.removesuffix(CLONE_MARK)]
        differing = {key for key in clone if clone[key] != original[key]}
        assert differing == {"item_id", "conversion_type", "bid"}
    before, after = (frame.interactions().collect()["item_id"] for frame in (log, ads))
    assert after.str.replace(CLONE_MARK, "").equals(before)
    share = after.str.ends_with(CLONE_MARK).sum() / before.is_in([c.removesuffix(CLONE_MARK) for c in clones]).sum()
    assert 0.4 < share < 0.6
    # Business fields separate what content cannot.
    table = pl.DataFrame(list(rows.values()))
    hashed = HashedLevel(1 << 30, ("advertiser_id", "conversion_type", "item_id")).codes(table)
    assert len(set(hashed.tolist())) == len(table)


def test_simulation_needs_a_catalogue_and_a_share(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=30, items=20, seed=1)
    with pytest.raises(DataError, match=r"no items\.parquet"):
        simulate_ads(log, tmp_path / "ads")
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        simulate_ads(log, tmp_path / "ads", clones=1.5)


def test_values_of_a_simulated_catalogue_are_read_and_labelled(prepared: Prepared, tmp_path: Path) -> None:
    log = Dataset.open(prepared.split.path.parent / "log")
    ads = simulate_ads(log, tmp_path / "ads", seed=3)
    split = make_split(ads, SplitConfig(catalogue="file"), tmp_path / "split")
    values = ad_values(encode(split), split, ValuesConfig(), seed=0)
    assert values is not None and values.source == "catalogue" and values.synthetic
