"""KuaiRand and logs of its layout: CSV of exposures with twelve signals, and features of users and videos."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables, times_to_seconds
from recascade.data.adapters.text_tables import numbers_from_text, text_table
from recascade.errors import ConfigurationError, DataError, did_you_mean

TERMS = "KuaiRand: CC BY-SA 4.0 as far as known; cite the paper."
_LOGS = {"standard": ("log_standard_",), "random": ("log_random_",), "all": ("log_standard_", "log_random_")}
_FEATURES = ("user_features", "video_features_basic")
# Averages over the whole month of the log, so they know the events that a split holds out.
_STATISTICS = "video_features_statistic"
# kuairand.com: 1 or 0 for each signal, milliseconds for times and durations.
_SIGNALS = (
    "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter",
    "is_rand",
)  # fmt: skip
_AMOUNTS = ("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "time_ms")
_REQUIRED = ("user_id", "video_id", "time_ms")


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open the folder or the ``tar.gz`` of KuaiRand-Pure, -1K or -27K.

    One event is one exposure that has the signal ``signal``; all signals stay as columns (int8), and ``time_ms`` beside
    the seconds, since many exposures share a second.

    Args:
        source: the archive, its folder, or the ``data`` folder in it.
        options: ``signal``, ``logs``, ``statistics``.
        scratch: where members are unpacked and files copied to, as Parquet.

    Raises:
        DataError: there is no log, a file is cut off or damaged, or a column is missing or holds no numbers.
        ConfigurationError: an impossible value of an option.
    """
    signal = options.get("signal", "is_click")
    if signal not in (*_SIGNALS, "none"):
        raise ConfigurationError(f"signal={signal} is not possible.{did_you_mean(signal, [*_SIGNALS, 'none'])}")
    logs = options.get("logs", "standard")
    if logs not in _LOGS:
        raise ConfigurationError(f"logs={logs} is not possible.{did_you_mean(logs, _LOGS)}")
    statistics = options.get("statistics", "no")
    if statistics not in ("yes", "no"):
        raise ConfigurationError(f"statistics={statistics} is not possible; write statistics=yes or statistics=no.")
    features = (*_FEATURES, _STATISTICS) if statistics == "yes" else _FEATURES
    files = _files(source, scratch, (*_LOGS["all"], *features))
    chosen = [path for path in files if path.name.startswith(_LOGS[logs])]
    if not chosen:
        raise DataError(f"{source} holds no file {' or '.join(f'{start}….csv' for start in _LOGS[logs])}.")
    frames = {"interactions": pl.concat([_events(path, scratch, signal) for path in chosen], how="diagonal")}
    videos = _features(files, scratch, "video_features_basic", "video_id")
    if videos is not None:
        averages = _features(files, scratch, _STATISTICS, "video_id")
        frames["items"] = _items(videos if averages is None else videos.join(averages, on="video_id", how="left"))
    users = _features(files, scratch, "user_features", "user_id")
    if users is not None:
        frames["users"] = users
    return Tables(frames, source=source.name, terms=TERMS)


def _files(source: Path, scratch: Path, wanted: tuple[str, ...]) -> list[Path]:
    """The CSV files whose names start with a wanted word, in the order of their names."""
    if source.is_file():
        return sorted(_unpack(source, scratch, wanted))
    if not source.is_dir():
        raise DataError(f"There is no file or folder {source}.")
    folder = source / "data" if (source / "data").is_dir() else source
    return sorted(path for path in folder.glob("*.csv") if path.name.startswith(wanted))


def _unpack(archive: Path, scratch: Path, wanted: tuple[str, ...]) -> Iterable[Path]:
    """Copy the wanted members out, one after the other, under their bare names."""
    paths = []
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                name = Path(member.name).name
                if member.isfile() and name.startswith(wanted) and name.endswith(".csv"):
                    packed = members.extractfile(member)
                    if packed is None:
                        continue
                    with packed, (scratch / name).open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
                    paths.append(scratch / name)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is not a complete tar archive ({error}); download it again.") from error
    return paths


def _events(path: Path, scratch: Path, signal: str) -> pl.LazyFrame:
    required = _REQUIRED if signal == "none" else (*_REQUIRED, signal)
    frame = text_table(path, scratch, required=required)
    numbers = {**dict.fromkeys(_SIGNALS, pl.Int8), **dict.fromkeys(_AMOUNTS, pl.Int64)}
    frame = numbers_from_text(frame, numbers, path)
    if signal != "none":
        frame = frame.filter(pl.col(signal) == 1)
    frame = frame.rename({"video_id": "item_id"}).with_columns(timestamp=pl.col("time_ms"))
    return times_to_seconds(frame.drop("date", "hourmin", strict=False), {"time_unit": "ms"}, path)


def _features(files: list[Path], scratch: Path, start: str, key: str) -> pl.LazyFrame | None:
    """The files of one kind of features, with numbers where all values of a column are numbers."""
    parts = [text_table(path, scratch, required=(key,)) for path in files if path.name.startswith(start)]
    if not parts:
        return None
    table = pl.concat(parts, how="diagonal")
    columns = [name for name in table.collect_schema().names() if name != key]
    numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in columns}
    whole = table.select(
        **{name: (pl.col(name).is_null() | number.is_not_null()).all() for name, number in numbers.items()}
    ).collect(engine="streaming")
    casts = [numbers[name].cast(pl.Float32).alias(name) for name in columns if whole[name].item()]
    identifiers = [name for name in columns if name.endswith("_id")]
    return table.with_columns([cast for cast in casts if cast.meta.output_name() not in identifiers])


def _items(videos: pl.LazyFrame) -> pl.LazyFrame:
    """Videos have no titles; ``tag`` names their topics by numbers, which become the categories."""
    columns = videos.collect_schema()
    videos = videos.rename({"video_id": "item_id"})
    if "tag" not in columns:
        return videos
    tags = pl.col("tag").cast(pl.String).str.split(",")
    return videos.with_columns(categories=tags).drop("tag")
