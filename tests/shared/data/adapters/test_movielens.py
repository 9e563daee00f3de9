from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.errors import DataError

GENRES = "unknown|0\nAction|1\nComedy|2\n\n"
LAYOUTS = {
    "ml-100k": {
        "u.data": "1\t10\t3\t881250949\n2\t20\t5\t891717742\n",
        "u.item": (
            "10|Café Society (1995)|01-Jan-1995||http://x|0|1|1\n20|Untitled|||http://y|1|0|0\n".encode("iso-8859-1")
        ),
        "u.genre": GENRES,
        "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
    },
    "ml-1m": {
        "ratings.dat": "1::10::3::881250949\n2::20::5::891717742\n",
        "movies.dat": "10::Café Society (1995)::Action|Comedy\n20::Untitled::\n".encode("iso-8859-1"),
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    },
    "ml-10M100K": {
        "ratings.dat": "1::10::3::881250949\n2::20::5::891717742\n",
        "movies.dat": "10::Café Society (1995)::Action|Comedy\n20::Untitled::(no genres listed)\n",
    },
    "ml-latest": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.0,881250949\n2,20,5.0,891717742\n",
        "movies.csv": 'movieId,title,genres\n10,"Café Society (1995)",Action|Comedy\n20,Untitled,(no genres listed)\n',
    },
}


def write(folder: Path, layout: str) -> Path:
    place = folder / layout / layout
    place.mkdir(parents=True)
    for name, content in LAYOUTS[layout].items():
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return place.parent


def packed(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for path in folder.rglob("*"):
            members.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("as_zip", [False, True])
def test_every_layout_gives_the_same_tables(layout: str, as_zip: bool, tmp_path: Path) -> None:
    source = write(tmp_path, layout)
    data = import_dataset("movielens", packed(source) if as_zip else source, tmp_path / "imported")
    events = data.interactions().collect()
    assert events.rows() == [("1", "10", 881250949, 3.0), ("2", "20", 891717742, 5.0)]
    films = data.items().collect()
    assert films["title"].to_list() == ["Café Society (1995)", "Untitled"]
    assert films["year"].to_list() == [1995, None]
    assert films["categories"].to_list()[0] == ["Action", "Comedy"]
    assert films["text"].to_list() == ["Café Society (1995). Action, Comedy", "Untitled"]
    assert "GroupLens" in data.terms
    assert not (data.path / "scratch").exists()


def test_users(tmp_path: Path) -> None:
    old = import_dataset("movielens", write(tmp_path, "ml-100k"), tmp_path / "old").users()
    assert old.collect().rows()[0] == ("1", 24, "M", "technician", "85711")
    new = import_dataset("movielens", write(tmp_path, "ml-1m"), tmp_path / "new").users()
    assert new.collect().rows() == [("1", "F", 1, "K-12 student", "48067"), ("2", "M", 56, "self-employed", "70072")]


def test_broken_downloads_are_named(tmp_path: Path) -> None:
    source = write(tmp_path, "ml-1m")
    archive = packed(source)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match=r"ml-1m.zip is not a complete zip file .*download it again"):
        import_dataset("movielens", archive, tmp_path / "imported")
    films = source / "ml-1m" / "movies.dat"
    films.write_bytes(films.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"Line 2 of movies.dat has 2 fields, not 3"):
        import_dataset("movielens", source, tmp_path / "imported")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="holds no MovieLens ratings"):
        import_dataset("movielens", tmp_path / "other", tmp_path / "imported")
    with pytest.raises(DataError, match="There is no file or folder"):
        import_dataset("movielens", tmp_path / "absent", tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


RATINGS = {"ml-100k": ("u.data", "\t"), "ml-1m": ("ratings.dat", "::"), "ml-latest": ("ratings.csv", ",")}


@pytest.mark.parametrize("layout", RATINGS)
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("userId,movieId,rating,timestamp\n", "'timestamp' of .* holds no number in 1 row, first 'timestamp' in row 3"),
        ("3,10,good,881250950\n", "'rating' of .* holds no number in 1 row, first 'good' in row 3"),
        ("3,10,4\n1,20,4,881250950\n", r"Row 3 of .* has no timestamp; the file is cut off or damaged"),
        ("3,10", r"The last line of .* no end: the file is cut off"),
    ],
)
def test_damaged_ratings_get_a_sentence(layout: str, line: str, sentence: str, tmp_path: Path) -> None:
    source = write(tmp_path, layout)
    name, separator = RATINGS[layout]
    with (source / layout / name).open("a") as file:
        file.write(line.replace(",", separator))
    with pytest.raises(DataError, match=sentence) as caught:
        import_dataset("movielens", source, tmp_path / "imported")
    assert name in str(caught.value)
    assert not (tmp_path / "imported").exists()


def test_a_real_log_survives_the_double_colons(real_data, tmp_path: Path) -> None:
    events = real_data("ml-100k").interactions().collect()
    lines = events.select(
        pl.concat_str(["user_id", "item_id", pl.col("rating").cast(pl.Int8), "timestamp"], separator="::")
    ).to_series()
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    again = import_dataset("movielens", tmp_path, tmp_path / "imported").interactions().collect()
    assert again.equals(events.select("user_id", "item_id", "timestamp", "rating"))
