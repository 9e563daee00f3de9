from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import DataError
from recascade.tokenizers.config import ConflictConfig, ContentConfig, ContrastiveConfig, TokenizerConfig
from recascade.tokenizers.run_ids import ids_of_run
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import load_semantic_ids, save_semantic_ids
from recascade.tokenizers.tokenize import Tokenized, tokenize

SETTINGS = {
    "residual-k-means": TokenizerConfig(sizes=[8, 4], content=ContentConfig(dimension=8)),
    "ua-sid": TokenizerConfig(
        name="ua-sid",
        sizes=[8, 4, 4],
        hash_keys=["brand", "item_id"],
        content=ContentConfig(dimension=8),
        contrastive=ContrastiveConfig(epochs=3, batch=8, hidden=8),
    ),
}


def split_of(folder: Path, destination: Path) -> Split:
    return make_split(Dataset.open(folder), SplitConfig(protocol="leave-one-out", ties="file"), destination)


def tokenized(split: Split, config: TokenizerConfig) -> Tokenized:
    return tokenize(encode(split), split, config, seed=1)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_held_out_events_change_no_code(name: str, shop: Path, tmp_path: Path) -> None:
    first = tokenized(split_of(shop, tmp_path / "first"), SETTINGS[name])
    events = pl.read_parquet(shop / "interactions.parquet")
    # Each user's last two events become another item: one that training knows, and one that nothing else names.
    places = pl.int_range(pl.len()).over("user_id")
    other = pl.when(places == 6).then(pl.lit("i00")).when(places == 7).then(pl.lit("held-out")).otherwise("item_id")
    events.with_columns(other.alias("item_id")).write_parquet(shop / "interactions.parquet")
    items = pl.read_parquet(shop / "items.parquet")
    new = pl.DataFrame({"item_id": ["held-out"], "text": ["tea tea small bike unheard"], "brand": ["b0"]})
    pl.concat([items, new]).write_parquet(shop / "items.parquet")
    second = tokenized(split_of(shop, tmp_path / "second"), SETTINGS[name])
    assert "held-out" not in second.ids
    assert second.ids.item_ids == first.ids.item_ids
    assert np.array_equal(first.ids.codes, second.ids.codes)
    assert np.array_equal(first.content.vectors, second.content.vectors)


def test_training_events_do_change_tuned_codes(shop: Path, tmp_path: Path) -> None:
    first = tokenized(split_of(shop, tmp_path / "first"), SETTINGS["ua-sid"])
    events = pl.read_parquet(shop / "interactions.parquet")
    shuffled = events.with_columns(events["item_id"].shuffle(seed=5))
    shuffled.write_parquet(shop / "interactions.parquet")
    second = tokenized(split_of(shop, tmp_path / "second"), SETTINGS["ua-sid"])
    assert first.ids.item_ids == second.ids.item_ids
    tuned = [one.ids.tokenizer.tuned(one.content.vectors) for one in (first, second)]
    assert not np.allclose(*tuned, atol=1e-3)


def test_codes_are_in_the_order_of_the_vocabulary(shop: Path, tmp_path: Path) -> None:
    split = split_of(shop, tmp_path / "split")
    data = encode(split)
    ids = tokenize(data, split, SETTINGS["residual-k-means"]).ids
    assert ids.item_ids == data.items.ids.to_list()
    assert np.array_equal(ids.codes_for(data.items), ids.codes)
    assert ids.fingerprint == split.manifest.fingerprint
    assert len(np.unique(ids.codes, axis=0)) == len(ids)


def test_new_items_come_from_text_to_code(shop: Path, tmp_path: Path) -> None:
    split = split_of(shop, tmp_path / "split")
    made = tokenized(split, SETTINGS["residual-k-means"])
    known = made.ids.item_ids[0]
    new = pl.read_parquet(shop / "items.parquet").filter(pl.col("item_id") == known)
    assert made.content.encoder is not None
    code = made.ids.append(["new"], 3 * made.content.encoder.encode(new))
    assert code[0, :2].tolist() == list(made.ids.code(known)[:2])


def test_ids_tuned_on_another_split_are_refused(shop: Path, tmp_path: Path) -> None:
    split = split_of(shop, tmp_path / "split")
    made, plain = (tokenized(split, SETTINGS[name]).ids for name in ("ua-sid", "residual-k-means"))
    assert made.tokenizer.projection is not None and plain.tokenizer.projection is None
    for ids, name in ((made, "tuned"), (plain, "plain")):
        save_semantic_ids(ids, tmp_path / f"{name}.parquet")
        (tmp_path / name).mkdir()
    own = ids_of_run(tmp_path / "tuned", tmp_path / "tuned.parquet", plain_ids, fingerprint=made.fingerprint)
    assert own.item_ids == made.item_ids
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="were tuned on training events of split"):
        ids_of_run(tmp_path / "other", tmp_path / "tuned.parquet", plain_ids, fingerprint="another")
    # Words alone know no event.
    ids_of_run(tmp_path / "plain", tmp_path / "plain.parquet", plain_ids, fingerprint="another")


def plain_ids() -> SemanticIds:
    raise AssertionError("ids were given")


@pytest.mark.parametrize("policy", ["allow", "digit", "reassign"])
def test_conflict_policy_is_followed(policy: str, shop: Path, tmp_path: Path) -> None:
    config = TokenizerConfig(sizes=[4, 16], content=ContentConfig(dimension=2), conflicts=ConflictConfig(policy=policy))
    ids = tokenized(split_of(shop, tmp_path / "split"), config).ids
    assert len(ids.sizes) == (3 if policy == "digit" else 2)
    assert (len(np.unique(ids.codes, axis=0)) == len(ids)) == (policy != "allow")


def test_length_of_vectors_counts_only_where_it_is_asked_to(shop: Path, tmp_path: Path) -> None:
    for normalise in (True, False):
        config = TokenizerConfig(sizes=[8, 4], content=ContentConfig(dimension=8, normalise=normalise))
        made = tokenized(split_of(shop, tmp_path / str(normalise)), config)
        tuned = made.ids.tokenizer.tuned(made.content.vectors)
        assert np.allclose(np.linalg.norm(tuned, axis=1), 1, atol=1e-5) == normalise
        save_semantic_ids(made.ids, tmp_path / "ids.parquet")
        assert load_semantic_ids(tmp_path / "ids.parquet").tokenizer.normalise == normalise
