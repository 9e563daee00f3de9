from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.adapters import json_lines
from recascade.data.adapters.registry import import_dataset
from recascade.data.dataset import Dataset
from recascade.errors import ConfigurationError, DataError

USERS = ("A1YJEY40YUW4SE", "A60XNB876KYML", "AE3T6OJJKA3Q3V6DCQOAMHCCRK3Q")
ITEMS = ("B00000JBAT", "B000FPGGRE", "0439893577")
SECONDS = 1_391_040_000
ROWS = [
    (user, item, SECONDS + place, float(place + 1)) for place, (user, item) in enumerate(zip(USERS, ITEMS, strict=True))
]


def reviews(edition: int) -> list[dict[str, Any]]:
    if edition == 2023:
        return [
            {"rating": rating, "title": "Nice", "text": "…", "images": [], "asin": "B0VARIANT1", "parent_asin": item,
             "user_id": user, "timestamp": time * 1000 + 7, "helpful_vote": 0, "verified_purchase": True}
            for user, item, time, rating in ROWS
        ]  # fmt: skip
    return [
        {"reviewerID": user, "asin": item, "helpful": [3, 4], "reviewText": "…", "overall": rating,
         "unixReviewTime": time, "reviewTime": "01 30, 2014", **({"verified": True} if edition == 2018 else {})}
        for user, item, time, rating in ROWS
    ]  # fmt: skip


def lines(objects: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def ratings(edition: int) -> str:
    if edition == 2014:
        return "".join(f"{user},{item},{rating},{time}\n" for user, item, time, rating in ROWS)
    if edition == 2018:
        return "".join(f"{item},{user},{rating},{time}\n" for user, item, time, rating in ROWS)
    head = "user_id,parent_asin,rating,timestamp\n"
    return head + "".join(f"{user},{item},{rating},{time}007\n" for user, item, time, rating in ROWS)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def gzipped(content: bytes) -> bytes:
    """Compressed without the time of day, which would give the test another name in each process that collects it."""
    return gzip.compress(content, mtime=0)


def many_ratings() -> bytes:
    return "".join(f"{USERS[0]},B{place * 7919 % 10**9:09d},5.0,{SECONDS}\n" for place in range(5_000)).encode()


METADATA: dict[int, Callable[[], str]] = {
    2014: lambda: (
        "{'asin': 'B00000JBAT', 'title': \"Lip Balm &amp; Case\", 'price': 5.39, 'brand': 'Bell''s',"
        " 'categories': [['Beauty', 'Lips'], ['Beauty', 'Gifts']], 'description': 'Soft.'}\n"
        + json.dumps({"asin": "B000FPGGRE"}) + "\n{'asin': 'B_NOT_SOLD', 'title': 'x'}\n"
    ),
    2018: lambda: lines([
        {"asin": "B00000JBAT", "title": "Lip Balm &amp; Case", "price": "$5.39", "brand": "Bells",
         "category": ["Beauty", "Lips", "Gifts"], "description": ["Soft."]},
        {"asin": "B000FPGGRE", "title": "", "price": "", "category": [], "description": []},
        {"asin": "B00000JBAT", "title": "a repeated line"},
        {"asin": "B_NOT_SOLD", "title": "x"},
    ]),
    2023: lambda: lines([
        {"parent_asin": "B00000JBAT", "title": "Lip Balm &amp; Case", "price": 5.39, "store": "Bells",
         "categories": ["Beauty", "Lips", "Gifts"], "description": ["Soft."], "main_category": "All Beauty",
         "details": {"Brand": "x"}},
        {"parent_asin": "B000FPGGRE", "title": "", "price": None, "categories": [], "description": [], "store": None},
    ]),
}  # fmt: skip


def imported(folder: Path, edition: int, content: str | bytes, name: str = "log", **options: str) -> Dataset:
    source = folder / name
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_dataset(f"amazon-{edition}", source, folder / "imported", options)


@pytest.mark.parametrize("edition", [2014, 2018, 2023])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_every_form_of_every_edition_gives_the_same_events(
    edition: int, packed: bool, form: str, tmp_path: Path
) -> None:
    content = (lines(reviews(edition)) if form == "json" else ratings(edition)).encode()
    name = f"reviews.{form}{'.gz' if packed else ''}"
    data = imported(tmp_path, edition, gzip.compress(content) if packed else content, name)
    events = data.interactions().collect()
    assert events.select("user_id", "item_id", "timestamp", "rating").rows() == ROWS
    assert events.schema["rating"] == pl.Float32
    assert ("verified" in events.columns) == (form == "json" and edition != 2014)
    assert "research" in data.terms and data.tables == ["interactions"]


@pytest.mark.parametrize("edition", [2014, 2018, 2023])
def test_metadata_become_items_that_have_events(edition: int, tmp_path: Path) -> None:
    (tmp_path / "meta.gz").write_bytes(gzip.compress(METADATA[edition]().encode()))
    data = imported(tmp_path, edition, ratings(edition), items=str(tmp_path / "meta.gz"))
    table = data.items()
    assert table is not None
    items = table.collect()
    assert items["item_id"].to_list() == ["B00000JBAT", "B000FPGGRE"]
    first, second = items.to_dicts()
    assert first["title"] == "Lip Balm & Case" and first["brand"] == "Bells"
    assert first["categories"] == ["Beauty", "Lips", "Gifts"]
    assert first["text"] == "Lip Balm & Case. Bells. Beauty, Lips, Gifts"
    assert first["price"] == pytest.approx(5.39) and first["description"] == "Soft."
    assert {second[name] for name in ("title", "text", "brand", "price")} == {None} and second["categories"] is None


def test_reviews_of_2014_may_be_python_dictionaries(tmp_path: Path) -> None:
    data = imported(tmp_path, 2014, "".join(f"{review!r}\n" for review in reviews(2014)))
    assert data.interactions().select("user_id", "item_id", "timestamp", "rating").collect().rows() == ROWS
    with pytest.raises(DataError, match=r"3 lines of 3 that cannot be read, first line 1 \(no JSON\)"):
        imported(tmp_path / "imported", 2018, "".join(f"{review!r}\n" for review in reviews(2018)))


@pytest.mark.parametrize(
    ("written", "price"),
    [("$1,005.39", 1005.39), ("from 5.39", 5.39), (" $5.39 - $7", 5.39), (".a-box{width:40px}", None), (None, None)],
)
def test_prices_as_published(written: str | None, price: float | None, tmp_path: Path) -> None:
    (tmp_path / "meta").write_text(json.dumps({"asin": ITEMS[0], "price": written}) + "\n")
    table = imported(tmp_path, 2018, ratings(2018), items=str(tmp_path / "meta")).items()
    assert table is not None
    assert table.collect()["price"].to_list() == [None if price is None else pytest.approx(price)]


def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines(reviews(2018)).rstrip("\n")
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", 97)
    assert imported(tmp_path, 2018, content).interactions().select("user_id").collect().height == 3


@pytest.mark.parametrize("block", [61, 1 << 24])
def test_broken_lines_are_counted_and_the_first_is_named(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block)
    good = lines(reviews(2018)).splitlines()
    broken = "\n".join([good[0], "", good[1][:-9], good[1], "[1]", good[2].replace("3.0", '"three"')]) + "\n"
    with pytest.raises(DataError, match=r"log has 3 lines of 6 that cannot be read, first line 3 \(no JSON\).*skip"):
        imported(tmp_path, 2018, broken)
    assert not (tmp_path / "imported").exists()
    kept = imported(tmp_path, 2018, broken, broken="skip").interactions()
    assert kept.select("user_id", "item_id", "timestamp", "rating").collect().rows() == ROWS[:2]


@pytest.mark.parametrize(
    ("edition", "content", "sentence"),
    [
        (2014, "", "is empty"),
        (2014, half(gzipped(lines(reviews(2014)).encode())), "cannot be unpacked; it is cut off"),
        (2014, half(gzipped(many_ratings())), "cannot be unpacked; it is cut off"),
        (2014, gzipped(many_ratings())[:-6], "cannot be unpacked; it is cut off"),
        (2014, lines(reviews(2023)), "no field 'reviewerID' in its first line, which has rating, title"),
        (2023, lines(reviews(2018)), "no field 'user_id'"),
        (2014, lines(reviews(2014)).replace("2.0", '"two"'), "field 'overall' is no number: 'two'"),
        (2014, ratings(2018), "import it with the adapter amazon-2018"),
        (2018, ratings(2014), "import it with the adapter amazon-2014"),
        (2014, ratings(2023), "cannot|products where|no number"),
        (2023, ratings(2014), "no column 'user_id'"),
        (2023, ratings(2023).replace("parent_asin", "parent_sin"), "no column 'parent_asin'.*mean 'parent_sin'"),
        (2023, ratings(2023).replace("rating", "user_id", 1), "two columns named 'user_id'"),
        (2023, ratings(2023) * 2, "'rating' of .* holds no number in 1 row, first 'rating' in row 4"),
        (2018, ratings(2018).replace(",2.0,", ",two,"), "holds no number in 1 row, first 'two' in row 2"),
        (2014, ratings(2014)[:-14], "is cut off"),
        (2014, "a,b,c\n", "has 3 columns instead of 4"),
    ],
)  # fmt: skip
def test_hostile_files_get_a_sentence(edition: int, content: str | bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        imported(tmp_path, edition, content, "log.gz" if isinstance(content, bytes) else "log.csv")
    assert not (tmp_path / "imported").exists()


def test_options_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only value is broken=skip"):
        imported(tmp_path, 2014, ratings(2014), broken="no")
    with pytest.raises(DataError, match=r"There is no file .*/meta\.json"):
        imported(tmp_path, 2014, ratings(2014), items=str(tmp_path / "meta.json"))
    with pytest.raises(DataError, match=r"There is no file .*/nowhere"):
        import_dataset("amazon-2014", tmp_path / "nowhere", tmp_path / "imported")


def test_a_literal_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "meta").write_text(f"{{'asin': 'B00000JBAT', 'title': open({str(trap)!r}, 'w')}}\n")
    with pytest.raises(DataError, match="neither JSON nor a Python dictionary"):
        imported(tmp_path, 2014, ratings(2014), items=str(tmp_path / "meta"))
    assert not trap.exists()


@settings(max_examples=15)
@given(
    junk=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ").replace(b"\r", b" ")), max_size=8)
)
def test_whatever_stands_in_the_lines_the_good_ones_are_kept(
    tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("junk")
    good = [line.encode() for line in lines(reviews(2014)).splitlines()]
    content = b"\n".join([good[0], *junk, *good[1:]]) + b"\n"
    data = imported(folder, 2014, content, broken="skip")
    assert data.interactions().select("user_id", "item_id", "timestamp", "rating").collect().rows() == ROWS
