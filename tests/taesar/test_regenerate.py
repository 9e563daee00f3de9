"""Regeneration: no leak, resumed equals uninterrupted, data that other methods train on, and bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mixed_domains import TRAINER, mixed_log, small_config

from recascade.contracts.transform import Transform
from recascade.data.audit import audit
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.twin import write_twin
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.popularity import Popularity
from recascade_taesar import places
from recascade_taesar import regenerate as module
from recascade_taesar import transform as transform_module
from recascade_taesar.config import TaesarConfig
from recascade_taesar.models import train_models
from recascade_taesar.regenerate import regenerate
from recascade_taesar.transform import TaesarTransform

EVERY = ("books", "sports", "tools")


def made(split: Split, folder: Path, targets: tuple[str, ...] = ("books",), **overrides: Any) -> dict[str, Dataset]:
    return regenerate(
        split,
        encode(split),
        small_config(**overrides),
        {name: folder / name for name in targets},
        folder / "work",
        seed=0,
        trainer=TRAINER,
    )


def trained_rows(dataset: Dataset) -> pl.DataFrame:
    return dataset.interactions().filter(pl.col("split_part") == "train").collect()


@pytest.fixture(scope="module")
def regenerated(split: Split, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Dataset]]:
    folder = tmp_path_factory.mktemp("regenerated")
    return folder, made(split, folder, EVERY)


def twin_of(split: Split, folder: Path) -> Split:
    return make_split(write_twin(split, folder / "twin"), SplitConfig(ties="file"), folder / "twin-split")


@pytest.mark.parametrize("training_data", ["regenerated", "random-successor", "target"])
def test_nothing_held_out_reaches_the_training_rows(split: Split, tmp_path: Path, training_data: str) -> None:
    mine = made(split, tmp_path / "mine", EVERY, training_data=training_data)
    theirs = made(twin_of(split, tmp_path), tmp_path / "theirs", EVERY, training_data=training_data)
    for name in EVERY:
        assert trained_rows(mine[name]).equals(trained_rows(theirs[name]))
        assert audit(mine[name], split, theirs[name]).count == 0
    for file in sorted((tmp_path / "mine/work/models").rglob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "theirs" / file.relative_to(tmp_path / "mine")).read_bytes()


@pytest.mark.parametrize("release", [{"decoding__id_shift": 1}, {"training_data": "shifted"}])
def test_numbering_by_first_appearance_leaks_and_the_audit_says_so(
    split: Split, tmp_path: Path, release: dict[str, Any]
) -> None:
    chosen = release | {"decoding__id_order": "first-appearance", "insertion_rate": 1.0}
    mine = made(split, tmp_path / "mine", **chosen)["books"]
    theirs = made(twin_of(split, tmp_path), tmp_path / "theirs", **chosen)["books"]
    found = audit(mine, split, theirs)
    assert found.count > 0
    assert set(found.leaks["kind"]) == {"twin"}


def test_rows_hold_items_of_the_target_domain_alone(regenerated: tuple[Path, dict[str, Dataset]]) -> None:
    for name, dataset in regenerated[1].items():
        events = dataset.interactions().collect()
        assert events["item_id"].str.starts_with(f"{name}-").all()
        rows = events.filter(pl.col("user_id") != pl.col("source_user_id"))
        assert (rows["origin"] == "replaced").any()
        assert not (rows["item_id"] == rows["item_id"].shift(1)).filter(rows["position"] > 0).any()
        assert rows.group_by("user_id").len()["len"].min() >= 2  # type: ignore[operator]
        replaced = events.filter(pl.col("origin") == "replaced")
        assert not replaced["source_item_id"].str.starts_with(f"{name}-").any()
        assert replaced["score"].is_finite().all()
        assert events.filter(pl.col("origin") == "original")["source_item_id"].is_null().all()


def test_the_domains_own_events_stay_as_they_are(split: Split, regenerated: tuple[Path, dict[str, Dataset]]) -> None:
    for name, dataset in regenerated[1].items():
        events = dataset.interactions().filter(pl.col("user_id") == pl.col("source_user_id")).collect()
        for part in ("train", "validation", "test"):
            expected = split.part(part).filter(pl.col("domain") == name).select("user_id", "item_id", "timestamp")
            known = split.part("train").filter(pl.col("domain") == name).select("user_id").unique()
            found = events.filter(pl.col("split_part") == part).select("user_id", "item_id", "timestamp")
            assert found.equals(expected.join(known, on="user_id", how="semi", maintain_order="left").collect())


def test_targets_are_decoded_together_as_alone(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    alone = made(split, tmp_path, ("sports",), models=str(regenerated[0] / "work/models"))["sports"]
    assert trained_rows(alone).equals(trained_rows(regenerated[1]["sports"]))


def test_every_model_decodes_where_it_is_fastest(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Any] = []
    monkeypatch.setattr(module, "on_accelerator", lambda model, trainer: moved.append(model))
    made(split, tmp_path, models=str(regenerated[0] / "work/models"))
    assert len({id(model) for model in moved}) == 4


def test_pieces_and_shards_change_nothing(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_EVENTS", 50)
    monkeypatch.setattr(module, "_SHARD_EVENTS", 100)
    again = made(split, tmp_path, models=str(regenerated[0] / "work/models"))["books"]
    assert len(list((tmp_path / "work/shards").iterdir())) > 3
    one, other = trained_rows(regenerated[1]["books"]), trained_rows(again)
    assert one.drop("score").equals(other.drop("score"))
    np.testing.assert_allclose(one["score"].to_numpy(), other["score"].to_numpy(), rtol=1e-3)


def test_an_interrupted_regeneration_goes_on(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD_EVENTS", 200)
    calls = []
    real = places.decode_windows

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "decode_windows", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(split, tmp_path)
    assert not (tmp_path / "books").exists()
    weights = {file: file.stat().st_mtime_ns for file in (tmp_path / "work/models").rglob("*.safetensors")}
    assert len(weights) == 4
    finished = len(list((tmp_path / "work/shards").iterdir()))
    assert finished == 2
    done = made(split, tmp_path)["books"]
    assert {file: file.stat().st_mtime_ns for file in weights} == weights
    assert trained_rows(done).drop("score").equals(trained_rows(regenerated[1]["books"]).drop("score"))


def test_the_release_differs_from_the_correction(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    models = str(regenerated[0] / "work/models")
    release = made(split, tmp_path, models=models, decoding__id_shift=1, decoding__local_argmax="all")["books"]
    assert not trained_rows(release).equals(trained_rows(regenerated[1]["books"]))


def test_any_method_can_be_run_on_the_result(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    own = encode(make_split(regenerated[1]["tools"], SplitConfig(), tmp_path / "split"))
    assert own.manifest.config.protocol == "given"
    result = evaluate(Popularity.fit(own), own, "test", EvaluationConfig())
    targeted = make_split(_log_of(split, tmp_path), SplitConfig(ties="file", target_domain="tools"), tmp_path / "tools")
    expected = targeted.part("test").filter("target").select("user_id").collect()["user_id"]
    assert sorted(result.per_user["user_id"]) == sorted(expected)


def _log_of(split: Split, folder: Path) -> Dataset:
    return write_twin(split, folder / "same", parts=())


def test_in_place_of_the_own_rows_the_own_history_is_known_but_not_trained_on(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    models = str(regenerated[0] / "work/models")
    replaced = made(split, tmp_path, models=models, output="replace")["books"]
    union = regenerated[1]["books"]
    one, other = (
        encode(make_split(dataset, SplitConfig(), tmp_path / name)) for name, dataset in (("a", replaced), ("b", union))
    )
    assert one.items.ids.equals(other.items.ids)
    for part in ("validation", "test"):
        assert histories(one, part) == histories(other, part)
    assert trained_rows(replaced)["user_id"].str.ends_with("~regenerated").all()


def histories(data: EncodedSplit, part: str) -> dict[str, list[str]]:
    held_out = getattr(data, part)
    return {
        data.users.ids[user]: data.items.decode(data.events.items[data.events.offsets[user] : end])
        for user, end in zip(held_out.users.tolist(), held_out.history_ends.tolist(), strict=True)
    }


def test_controls_say_that_nothing_stood_there_or_what_did(split: Split, tmp_path: Path) -> None:
    successors = made(split, tmp_path / "a", training_data="random-successor")["books"].interactions().collect()
    assert set(successors["origin"]) == {"original", "replaced"}
    shifted = made(split, tmp_path / "b", training_data="shifted")["books"].interactions().collect()
    assert set(shifted["origin"]) == {"original", "inserted"}
    assert shifted["source_item_id"].is_null().all()
    assert not (tmp_path / "a/work/models").exists()


def test_the_transform_writes_data_card_and_models(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    transform = TaesarTransform("books", small_config(), trainer=TRAINER)
    assert isinstance(transform, Transform)
    result = transform.transform(dataset, tmp_path / "out")
    assert (result.path / "models/mixed/weights.safetensors").is_file()
    card = (result.path / "card.html").read_text()
    assert card.count("<polyline") == 4
    assert "head share" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]
    with pytest.raises(DataError, match="exists and is not empty"):
        transform.transform(dataset, tmp_path / "out")


@pytest.mark.parametrize(
    ("place", "name", "call"), [(module, "write_regenerated", 2), (transform_module, "write_card", 2)]
)
def test_a_stopped_regeneration_of_all_domains_goes_on(
    dataset: Dataset,
    split: Split,
    regenerated: tuple[Path, dict[str, Dataset]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    call: int,
) -> None:
    """Whether it is stopped between data sets or between their cards."""
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    models = str(regenerated[0] / "work/models")
    transform = TaesarTransform("all", small_config(models=models), trainer=TRAINER)
    destinations = {domain: tmp_path / "out" / domain for domain in EVERY}
    real, calls = getattr(place, name), []

    def stopped(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **settings)

    monkeypatch.setattr(place, name, stopped)
    with pytest.raises(KeyboardInterrupt):
        transform.transform_all(dataset, destinations, tmp_path / "out")
    done = transform.transform_all(dataset, destinations, tmp_path / "out")
    for domain in EVERY:
        assert trained_rows(done[domain]).equals(trained_rows(regenerated[1][domain]))
        assert (tmp_path / "out" / domain / "card.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_a_mistyped_folder_of_models_can_be_corrected(
    split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no finished models"):
        made(split, tmp_path, models=str(tmp_path / "nowhere"))
    made(split, tmp_path, models=str(regenerated[0] / "work/models"))


def test_a_workplace_of_other_settings_is_refused(split: Split, tmp_path: Path) -> None:
    made(split, tmp_path, training_data="random-successor")
    shutil.rmtree(tmp_path / "books")
    with pytest.raises(DataError, match="with another config"):
        made(split, tmp_path, training_data="random-successor", insertion_rate=0.5)


def test_a_target_domain_of_the_split_does_not_choose_the_models(
    dataset: Dataset, data: EncodedSplit, tmp_path: Path
) -> None:
    targeted = encode(make_split(dataset, SplitConfig(target_domain="books"), tmp_path / "split"))
    assert len(targeted.validation) < len(data.validation)
    config = small_config(regenerator__patience=1, regenerator__adaptation_patience=1).regenerator
    for name, given in (("all", data), ("books", targeted)):
        train_models(given, config, tmp_path / name, 0, TRAINER)
    files = sorted((tmp_path / "all").glob("*/weights.safetensors"))
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == (tmp_path / "books" / file.relative_to(tmp_path / "all")).read_bytes()


def test_missing_models_are_named(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no finished models"):
        made(split, tmp_path, models=str(tmp_path / "nowhere"))


def test_models_of_other_items_or_shapes_are_refused(
    dataset: Dataset, split: Split, regenerated: tuple[Path, dict[str, Dataset]], tmp_path: Path
) -> None:
    models = str(regenerated[0] / "work/models")
    fewer = remade(dataset, tmp_path / "log", keep=pl.col("item_id") != "tools-03")
    with pytest.raises(ConfigurationError, match="know 36 items that are not the 35"):
        made(fewer, tmp_path / "a", models=models)
    with pytest.raises(ConfigurationError, match=r"other shapes than model.regenerator says"):
        made(split, tmp_path / "b", models=models, regenerator__dimension=8)


def test_mixed_events_are_no_data_set_of_one_domain(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no data set to write"):
        made(split, tmp_path, training_data="mixed")
    assert not list(tmp_path.iterdir())


def test_an_unknown_domain_has_a_nearest_one(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'book'.*Did you mean 'books'"):
        made(split, tmp_path, ("book",))


def remade(dataset: Dataset, folder: Path, change: pl.Expr | None = None, keep: pl.Expr | None = None) -> Split:
    log = dataset.interactions()
    log = log if change is None else log.with_columns(change)
    log = log if keep is None else log.filter(keep)
    folder.mkdir()
    log.collect().write_parquet(folder / "interactions.parquet")
    return make_split(Dataset.open(folder), SplitConfig(), folder / "split")


def test_data_without_domains_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    log = dataset.interactions().drop("domain").collect()
    (tmp_path / "log").mkdir()
    log.write_parquet(tmp_path / "log/interactions.parquet")
    split = make_split(Dataset.open(tmp_path / "log"), SplitConfig(), tmp_path / "split")
    with pytest.raises(DataError, match="no column 'domain'"):
        made(split, tmp_path / "out")


def test_a_single_domain_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    split = remade(dataset, tmp_path / "log", keep=pl.col("domain") == "books")
    with pytest.raises(DataError, match="All training events are of one domain"):
        made(split, tmp_path / "out")


def test_users_of_one_domain_only_and_domains_without_common_users(tmp_path: Path) -> None:
    log = mixed_log(tmp_path / "raw")
    alone = pl.when(pl.col("user_id") < "u030").then(pl.lit("books")).otherwise(pl.lit("sports"))
    split = remade(log, tmp_path / "log", keep=pl.col("domain") == alone)
    result = made(split, tmp_path / "out", ("books",))["books"]
    assert set(trained_rows(result)["origin"]) == {"original"}


def test_a_domain_of_one_item(dataset: Dataset, tmp_path: Path) -> None:
    item = pl.when(pl.col("domain") == "tools").then(pl.lit("tools-00")).otherwise(pl.col("item_id"))
    split = remade(dataset, tmp_path / "log", change=item.alias("item_id"))
    result = made(split, tmp_path / "out", EVERY)
    assert set(result["tools"].interactions().collect()["item_id"]) == {"tools-00"}


def test_a_domain_whose_users_have_one_event_each_has_no_expert(dataset: Dataset, tmp_path: Path) -> None:
    first = (pl.col("domain") != "tools") | (pl.int_range(pl.len()).over("user_id", "domain") == 0)
    split = remade(dataset, tmp_path / "log", keep=first)
    made(split, tmp_path / "out", ("books",))
    folders = sorted(path.parent.name for path in (tmp_path / "out/work/models").glob("*/finished.json"))
    assert folders == ["expert-0", "expert-1", "mixed"]


def test_long_histories_are_decoded_whole_in_chunks(dataset: Dataset, split: Split, tmp_path: Path) -> None:
    counts = {}
    for windows in ("last", "chunks"):
        result = made(split, tmp_path / windows, regenerator__max_length=5, regenerator__windows=windows)["books"]
        counts[windows] = result.facts["counts"].get("train replaced", 0)
    assert counts["chunks"] > counts["last"] > 0


def test_impossible_settings_are_refused() -> None:
    for key, value in {
        "output": "both",
        "training_data": "all",
        "insertion_rate": 1.5,
        "decoding__js": "swapped",
        "decoding__id_shift": 2,
        "decoding__plausibility": 1.0,
        "regenerator__heads": 3,
        "regenerator__windows": "first",
        "backbone__name": "sasrek",
    }.items():
        with pytest.raises(ConfigurationError, match=f"model.{key.replace('__', '.')}"):
            small_config(**{key: value})


def test_the_default_is_the_corrected_decoder() -> None:
    assert TaesarConfig().decoding.id_shift == 0
    assert TaesarConfig().decoding.id_order == "seeded"
