from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.tokenizers.config import ConflictConfig
from recascade.tokenizers.contrastive import ContrastiveProjection
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.item_tokenizer import ItemTokenizer
from recascade.tokenizers.perceptron import perceptron
from recascade.tokenizers.product_codes import ProductCodes
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.residual_vq import ResidualVQ
from recascade.tokenizers.rq_vae import RQVAE
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import (
    load_semantic_ids,
    require_signature,
    save_semantic_ids,
    signature,
)

ITEMS = [f"item-{number}" for number in range(380)]
NEW = [f"new-{number}" for number in range(20)]

TUNING = ContrastiveProjection(perceptron([8, 6, 8]))

TOKENIZERS: dict[str, Callable[[], ItemTokenizer]] = {
    "residual-k-means": lambda: ItemTokenizer("residual-k-means", ResidualKMeans([16, 8])),
    "ua-sid": lambda: ItemTokenizer("ua-sid", ResidualKMeans([16, 8], balanced=True), hashed=HashedLevel(4)),
    "rq-vae": lambda: ItemTokenizer("rq-vae", RQVAE([16, 8], steps=5, hidden=[8], latent=4)),
    "residual-vq": lambda: ItemTokenizer("residual-vq", ResidualVQ([16, 8], steps=5)),
    "product-codes": lambda: ItemTokenizer("product-codes", ProductCodes([8, 8])),
    "tuned": lambda: ItemTokenizer("residual-k-means", ResidualKMeans([16, 8]), projection=TUNING),
}


@pytest.fixture(params=["allow", "digit", "reassign"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(
    vectors: np.ndarray, policy: str = "digit", name: str = "residual-k-means", digit_size: int = 0
) -> SemanticIds:
    conflicts = ConflictConfig(policy=policy, digit_size=digit_size)
    return SemanticIds.build(ITEMS, vectors[:380], TOKENIZERS[name](), conflicts=conflicts, fingerprint="f" * 16)


def test_both_directions_agree(vectors: np.ndarray, policy: str) -> None:
    ids = build(vectors, policy)
    assert ids.codes.dtype == np.int32
    assert ids.codes.shape == (380, len(ids.sizes))
    assert (ids.codes.max(axis=0) < ids.sizes).all()
    for item, code in zip(ids.item_ids, ids.codes.tolist(), strict=True):
        assert ids.code(item) == tuple(code)
        assert item in ids.items(code)
    assert sum(len(ids.items(code)) for code in {tuple(code) for code in ids.codes.tolist()}) == 380
    assert ids.items([15] * len(ids.sizes)) == []


def test_policies_keep_their_promise(vectors: np.ndarray) -> None:
    allowed, counted, moved = (build(vectors, policy) for policy in ("allow", "digit", "reassign"))
    assert allowed.sizes == moved.sizes == (16, 8)
    assert counted.sizes == (16, 8, 256)
    distinct = [len(np.unique(ids.codes, axis=0)) for ids in (allowed, counted, moved)]
    assert distinct[0] < distinct[2] <= 128
    assert distinct[1] == 380


def test_codes_follow_the_order_of_a_vocabulary(vectors: np.ndarray) -> None:
    ids = build(vectors)
    order = np.random.default_rng(0).permutation(380)[:100]
    vocabulary = Vocabulary([ITEMS[place] for place in order], kind="item")
    assert np.array_equal(ids.codes_for(vocabulary), ids.codes[order])
    with pytest.raises(DataError, match="1 of 2 items have no semantic id, first 'nobody'"):
        ids.codes_for(Vocabulary(["item-3", "nobody"], kind="item"))


def test_new_items_change_no_existing_code(vectors: np.ndarray, policy: str) -> None:
    ids = build(vectors, policy)
    before = ids.codes
    added = ids.append(NEW, vectors[380:])
    assert np.array_equal(ids.codes[:380], before)
    assert np.array_equal(ids.codes[380:], added)
    assert ids.item_ids == ITEMS + NEW
    for item, code in zip(NEW, added.tolist(), strict=True):
        assert item in ids.items(code)
    if policy == "digit":
        assert len(np.unique(ids.codes, axis=0)) == 400


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_new_items_get_the_same_codes_one_by_one_or_together(name: str, vectors: np.ndarray, policy: str) -> None:
    if name == "ua-sid":
        # A hashed level has no distances to reassign by.
        policy = policy.replace("reassign", "allow")
    together, singly = build(vectors, policy, name), build(vectors, policy, name)
    whole = together.append(NEW, vectors[380:])
    single = [singly.append([item], vectors[380 + place : 381 + place])[0] for place, item in enumerate(NEW)]
    assert np.array_equal(whole, np.array(single))


def test_deleted_items_are_gone_and_leave_their_digit_to_others(vectors: np.ndarray) -> None:
    ids = build(vectors)
    code = next(code for code in map(tuple, ids.codes.tolist()) if code[-1] == 1)
    first, second = ids.items((*code[:-1], 0))[0], ids.items(code)[0]
    others = {item: ids.code(item) for item in ids.item_ids if item != first}
    ids.delete([first])
    assert first not in ids
    assert len(ids) == 379
    assert ids.items((*code[:-1], 0)) == []
    assert {item: ids.code(item) for item in ids.item_ids} == others
    with pytest.raises(DataError, match=f"{first!r} has no semantic id"):
        ids.code(first)
    row = ITEMS.index(first)
    assert ids.append([first], vectors[row : row + 1]).tolist() == [[*code[:-1], 0]]
    assert ids.code(second) == code


def test_a_refused_batch_leaves_the_table_as_it_was(vectors: np.ndarray) -> None:
    ids = build(vectors, digit_size=32)
    fullest = max((ids.code(item) for item in ITEMS), key=lambda code: code[-1])
    same = np.tile(vectors[ITEMS.index(ids.items(fullest)[0])], (40, 1))
    copies = [f"copy-{number}" for number in range(40)]
    broken = vectors[380:].copy()
    broken[3] = np.inf
    refused = [
        (copies, same, "33 items share one code"),
        (NEW, broken, "not finite"),
        (["new-0", "item-7"], vectors[:2], "'item-7' has a semantic id already"),
        (["new-0", "new-0"], vectors[:2], "'new-0' has a semantic id already"),
        (["new-0"], vectors[:2], "2 vectors for 1 new items"),
        (["new-0"], vectors[:1, :5], "5 numbers each"),
    ]
    before = ids.codes
    for items, rows, sentence in refused:
        with pytest.raises(DataError, match=sentence):
            ids.append(items, rows)
    with pytest.raises(DataError, match="'nobody' has no semantic id"):
        ids.delete(["item-0", "nobody"])
    assert ids.item_ids == ITEMS
    assert np.array_equal(ids.codes, before)
    assert [ids.items(code) for code in before.tolist()] == [[item] for item in ITEMS]


def test_equal_creatives_differ_by_their_hashed_fields(vectors: np.ndarray) -> None:
    fields = pl.DataFrame({"item_id": ITEMS, "goal": [number % 2 for number in range(380)]})
    twins = np.repeat(vectors[:190], 2, axis=0)
    tokenizer = ItemTokenizer("ua-sid", ResidualKMeans([16, 8]), hashed=HashedLevel(2**20, ("goal",)))
    ids = SemanticIds.build(ITEMS, twins, tokenizer, fields=fields, conflicts=ConflictConfig(policy="allow"))
    assert (ids.codes[::2, :2] == ids.codes[1::2, :2]).all()
    assert (ids.codes[::2, 2] != ids.codes[1::2, 2]).all()
    with pytest.raises(DataError, match="no field 'goal'"):
        ids.append(["new-0"], vectors[:1])


def test_duplicate_items_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(DataError, match="stands twice"):
        SemanticIds.build(["a"] * 380, vectors[:380], TOKENIZERS["ua-sid"](), conflicts=ConflictConfig(policy="allow"))


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_a_file_continues_as_the_table_would(name: str, vectors: np.ndarray, tmp_path: Path) -> None:
    ids = build(vectors, name=name)
    ids.delete(ITEMS[:5])
    save_semantic_ids(ids, tmp_path / "ids.parquet")
    loaded = load_semantic_ids(tmp_path / "ids.parquet")
    assert loaded.item_ids == ids.item_ids
    assert np.array_equal(loaded.codes, ids.codes)
    assert (loaded.sizes, loaded.conflicts, loaded.fingerprint) == (ids.sizes, ids.conflicts, "f" * 16)
    assert signature(loaded) == signature(ids)
    assert np.array_equal(loaded.append(NEW, vectors[380:]), ids.append(NEW, vectors[380:]))


def test_the_file_is_a_plain_table_for_others(vectors: np.ndarray, tmp_path: Path) -> None:
    ids = build(vectors)
    save_semantic_ids(ids, tmp_path / "ids.parquet")
    table = pl.read_parquet(tmp_path / "ids.parquet")
    assert table.columns == ["item_id", "level_1", "level_2", "level_3"]
    assert np.array_equal(table.drop("item_id").to_numpy(), ids.codes)


def test_signature_tells_codebooks_and_rules_apart(vectors: np.ndarray) -> None:
    ids = build(vectors)
    known = signature(ids)
    assert signature(build(vectors)) == known
    assert signature(build(vectors[::-1])) != known
    assert signature(build(vectors, "allow")) != known
    ids.append(NEW, vectors[380:])
    assert signature(ids) == known
    require_signature(ids, known, Path("ids.parquet"))
    with pytest.raises(DataError, match=r"ids.parquet was made by another tokenizer"):
        require_signature(ids, "0" * 16, Path("ids.parquet"))


@pytest.mark.parametrize(
    ("key", "sentence"), [("format", "by format 99, but"), ("tokenizer_version", "by tokenizer version 99")]
)
def test_tables_of_another_version_are_refused(key: str, sentence: str, vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    save_semantic_ids(build(vectors), path)
    rewrite(path, lambda header: {**header, key: 99})
    with pytest.raises(DataError, match=sentence):
        load_semantic_ids(path)


def test_damaged_files_are_refused(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    with pytest.raises(DataError, match="There is no file"):
        load_semantic_ids(path)
    save_semantic_ids(build(vectors), path)
    whole = path.read_bytes()
    rewrite(path, lambda header: {**header, "sizes": [16, 8, 256, 4]})
    with pytest.raises(DataError, match=r"header of .* is damaged"):
        load_semantic_ids(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        load_semantic_ids(path)
    pl.DataFrame({"item_id": ["a"]}).write_parquet(path)
    with pytest.raises(DataError, match="is no table of semantic ids"):
        load_semantic_ids(path)


def rewrite(path: Path, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    table = pq.read_table(path)
    key = b"recascade.semantic_ids"
    metadata = dict(table.schema.metadata)
    metadata[key] = json.dumps(change(json.loads(metadata[key]))).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_policy_of_a_table_is_settled_once(vectors: np.ndarray) -> None:
    ids = build(vectors, digit_size=77)
    assert ids.conflicts == replace(ConflictConfig(policy="digit"), digit_size=77)
    assert ids.sizes == (16, 8, 77)
