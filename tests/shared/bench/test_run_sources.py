"""What a run reads, by content."""

from __future__ import annotations

from pathlib import Path

from recascade.bench.run_sources import content_digest, file_sources
from recascade.bench.suite import configs_of


def test_settings_name_files_also_inside_sections_and_members(home: Path, log: Path, tmp_path: Path) -> None:
    (tmp_path / "codes.parquet").write_text("codes")
    (tmp_path / "vectors.npy").write_text("vectors")
    ids, source = f"ids={tmp_path / 'codes.parquet'}", f"tokenizer.content.source={tmp_path / 'vectors.npy'}"
    overrides = dict(text.split("=") for text in (f"model.{ids}", f"model.{source}"))
    (alone,) = configs_of("tiger", str(log), "default", 1, overrides)
    assert file_sources(alone).keys() == {"model.ids", "model.tokenizer.content.source"}
    members = {"model.retriever": "tiger", "model.retriever_settings": [ids, source]}
    (cascade,) = configs_of("cascade", str(log), "default", 1, members)
    assert file_sources(cascade).keys() == {
        "model.retriever_settings.model.ids",
        "model.retriever_settings.model.tokenizer.content.source",
    }
    before = file_sources(alone)["model.ids"]
    (tmp_path / "codes.parquet").write_text("other")
    assert file_sources(alone)["model.ids"] != before


def test_a_word_is_no_file_and_a_missing_one_is_left_to_the_run(home: Path, log: Path, tmp_path: Path) -> None:
    overrides = {"model.ids": str(tmp_path / "missing.parquet"), "model.tokenizer.content.source": "text"}
    (config,) = configs_of("tiger", str(log), "default", 1, overrides)
    assert file_sources(config) == {}


def test_of_a_folder_the_weights_count(tmp_path: Path) -> None:
    folder = tmp_path / "start"
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "weights.safetensors").write_text("weights")
    before = content_digest(folder)
    (folder / "log.txt").write_text("opened")
    assert content_digest(folder) == before
    (folder / "seed-0" / "weights.safetensors").write_text("other weights")
    assert content_digest(folder) != before
