"""From a split to canonical data sets of single domains, in shards that an interrupted run goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.next_item import TrainingWindows, training_windows
from recascade.data.split import Split
from recascade.errors import ConfigurationError, DataError
from recascade.files import read_json, require_new_folder, write_atomically, write_json
from recascade.training.after_fit import on_accelerator
from recascade.training.config import TrainerConfig
from recascade_taesar.blocks import DomainBlocks, first_appearance
from recascade_taesar.config import TaesarConfig
from recascade_taesar.controls import random_successors, with_shifted
from recascade_taesar.decoding import ContrastiveDecoder
from recascade_taesar.models import MODELS, RegenerationModels, models_folder, train_models
from recascade_taesar.output import write_regenerated
from recascade_taesar.places import Decoded, decode_windows
from recascade_taesar.rows import ORIGINAL, REPLACED, Candidates, regenerated_rows

# Training events of one shard: what an interruption loses at most. Our choice.
_SHARD_EVENTS = 200_000
SHARDS = "shards"
Progress = Callable[[int, int], None]


def regenerate(
    split: Split,
    data: EncodedSplit,
    config: TaesarConfig,
    destinations: Mapping[str, Path],
    workplace: Path,
    *,
    seed: int,
    trainer: TrainerConfig,
    progress: Progress = lambda done, total: None,
) -> dict[str, Dataset]:
    """Make a data set of each target domain out of the training events of all domains.

    Nothing held out is read before the data sets are written, when the targets' own held-out events go into their
    parts ``validation`` and ``test`` unchanged.

    Args:
        split: leave-one-out over the mixed histories.
        data: the same split, encoded.
        config: what to put in the rows, and how to decode.
        destinations: target domain → new folder; those that an interrupted call has written stay.
        workplace: models and shards; the same call goes on from what an interrupted one left there.
        seed: of the models and of the controls' draws.
        trainer: where to train, and how to log it.
        progress: told how many shards are done, and of how many.

    Raises:
        DataError: the data have no domains, or fewer than two; a destination holds something; the workplace belongs to
            another regeneration.
        ConfigurationError: an unknown target domain, or ``model.training_data=mixed``, which is no data of one domain.
    """
    if config.training_data == "mixed":
        raise ConfigurationError(
            "model.training_data=mixed trains on the events of all domains as they are, so there is no data set to "
            "write; choose another variant, or 'recascade run taesar --variant mixed'."
        )
    domains = data.item_domains
    if domains is None:
        raise DataError(
            f"Data set {split.manifest.dataset!r} has no column 'domain' in its interactions, so it has no other "
            "domains to learn from; see 'recascade data domains'."
        )
    if len(domains.names) < 2:
        raise DataError(f"All training events are of one domain, {domains.names[0]!r}; Taesar needs another one.")
    codes = {name: domains.code(name) for name in destinations}
    facts = {"config": asdict(config), "seed": seed, "split": split.manifest.fingerprint}
    finished = {name for name, path in destinations.items() if workplace.is_dir() and _is_made(path, facts)}
    for name in destinations.keys() - finished:
        require_new_folder(destinations[name])
    if finished == destinations.keys():
        return {name: Dataset.open(path) for name, path in destinations.items()}
    _claim(workplace, split, config, list(destinations), seed)
    blocks = DomainBlocks.of(
        domains, appearance_ranks(split, data) if config.decoding.id_order == "first-appearance" else None
    )
    shards = [] if config.training_data == "target" else _shards(data.train_lengths)
    make = _maker(data, config, blocks, list(codes.values()), workplace, seed, trainer) if shards else None
    for number, users in enumerate(shards):
        assert make is not None
        progress(number, len(shards))
        paths = {name: _shard_path(workplace, code, number) for name, code in codes.items()}
        if all(path.is_file() for path in paths.values()):
            continue
        made = make(users, number)
        for name, path in paths.items():
            rows = regenerated_rows(
                made[codes[name]],
                drop_unchanged=config.output == "union",
                shortest=2 if config.output == "union" else 1,
            )
            _write_shard(rows, path)
    progress(len(shards), len(shards))
    return {
        name: Dataset.open(destinations[name])
        if name in finished
        else write_regenerated(
            split,
            data,
            name,
            [_shard_path(workplace, codes[name], number) for number in range(len(shards))],
            destinations[name],
            union=config.output == "union",
            facts=facts,
        )
        for name in destinations
    }


def _is_made(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether an interrupted call has written this data set already."""
    return (path / MANIFEST).is_file() and read_json(path / MANIFEST).items() >= facts.items()


Maker = Callable[[NDArray[np.int64], int], dict[int, Candidates]]


def _maker(
    data: EncodedSplit,
    config: TaesarConfig,
    blocks: DomainBlocks,
    targets: list[int],
    workplace: Path,
    seed: int,
    trainer: TrainerConfig,
) -> Maker:
    """What makes the candidates of a shard's users, for each target domain."""
    if config.training_data in ("random-successor", "shifted"):
        return lambda users, number: {
            domain: _control(data, config, blocks, domain, users, np.random.default_rng((seed, domain, number)))
            for domain in targets
        }
    folder = models_folder(config.models, workplace, seed)
    models = train_models(data, config.regenerator, folder, seed, trainer)
    for model in (models.mixed, *models.experts):
        on_accelerator(model, trainer)
    decoder = _decoder(models, blocks, config)
    windows = training_windows(
        data, config.regenerator.max_length, "chunks" if config.regenerator.windows == "chunks" else "last"
    )

    def decode(users: NDArray[np.int64], number: int) -> dict[int, Candidates]:
        first, last = int(data.events.offsets[users[0]]), int(data.events.offsets[users[-1] + 1])
        inside = slice(*np.searchsorted(windows.users, [users[0], users[-1] + 1]))
        own = TrainingWindows(windows.users[inside], windows.starts[inside], windows.lengths[inside], windows.followers)
        decoded = decode_windows(data, own, models, decoder, targets, first, last)
        return {domain: _decoded(data, domain, users, decoded[domain]) for domain in targets}

    return decode


def _decoder(models: RegenerationModels, blocks: DomainBlocks, config: TaesarConfig) -> ContrastiveDecoder:
    order = torch.from_numpy(blocks.order).to(models.mixed.item_embedding.device)
    matrices = [model.item_vectors(order).detach() for model in (models.mixed, *models.experts)]
    return ContrastiveDecoder(matrices[0], matrices[1:], blocks, config.decoding)


def _decoded(data: EncodedSplit, domain: int, users: NDArray[np.int64], decoded: Decoded) -> Candidates:
    """The users' own events of the domain, and replacements where there are any."""
    assert data.item_domains is not None
    events, owners = _training_events(data, users)
    items = np.asarray(data.events.items)[events].astype(np.int64)
    own = data.item_domains.codes[items] == domain
    places = events - int(data.events.offsets[users[0]])
    replaced = decoded.items[places].astype(np.int64)
    chosen = own | (replaced >= 0)
    return Candidates(
        users=owners,
        items=np.where(own, items, replaced),
        timestamps=np.asarray(data.events.timestamps)[events],
        origins=np.where(own, ORIGINAL, REPLACED).astype(np.int8),
        sources=np.where(own, -1, items),
        scores=np.where(own, np.float32(np.nan), decoded.scores[places]),
    ).take(chosen)


def _control(
    data: EncodedSplit,
    config: TaesarConfig,
    blocks: DomainBlocks,
    domain: int,
    users: NDArray[np.int64],
    random: np.random.Generator,
) -> Candidates:
    """The users' own events of the domain and insertions without a model."""
    assert data.item_domains is not None
    nothing = np.full(len(data.events.items), -1, np.int32)
    first, last = int(data.events.offsets[users[0]]), int(data.events.offsets[users[-1] + 1])
    unscored = np.full(last - first, np.nan, np.float32)
    if config.training_data == "shifted":
        own = _decoded(data, domain, users, Decoded(nothing[first:last], unscored))
        return with_shifted(own, blocks.members(domain), config.insertion_rate, random)
    everyone = np.arange(len(data.users))
    events, owners = _training_events(data, everyone)
    items = np.asarray(data.events.items)[events].astype(np.int64)
    inside = data.item_domains.codes[items] == domain
    places = np.flatnonzero(~inside & (owners >= users[0]) & (owners <= users[-1]))
    drawn = random_successors(owners, np.where(inside, items, -1), places, config.insertion_rate, random)
    nothing[events] = drawn
    return _decoded(data, domain, users, Decoded(nothing[first:last], unscored))


def _training_events(data: EncodedSplit, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 ``[N]`` each: the training events of these users, and whose each is."""
    starts = np.asarray(data.events.offsets)[users]
    lengths = np.asarray(data.train_ends)[users] - starts
    return ranges(starts, lengths), np.repeat(users, lengths)


def _shards(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The users in pieces of about ``_SHARD_EVENTS`` training events."""
    piece = (np.cumsum(lengths) - 1).clip(min=0) // _SHARD_EVENTS
    users = np.arange(len(lengths))
    return np.split(users, np.flatnonzero(np.diff(piece)) + 1)


def _shard_path(workplace: Path, domain: int, number: int) -> Path:
    return workplace / SHARDS / f"{domain}-{number:05}.parquet"


def _write_shard(rows: Candidates, path: Path) -> None:
    with write_atomically(path) as temporary:
        pl.DataFrame(vars(rows)).write_parquet(temporary)


def _claim(workplace: Path, split: Split, config: TaesarConfig, targets: list[str], seed: int) -> None:
    """Write down whose workplace it is, or refuse one of another regeneration."""
    plain = {key: value for key, value in asdict(config).items() if key != "backbone"}
    mine: dict[str, Any] = {"split": split.manifest.fingerprint, "seed": seed, "targets": targets, "config": plain}
    path = workplace / "regeneration.json"
    # A workplace in which nothing has been made yet binds nobody: a mistyped setting can be corrected.
    if path.is_file() and any((workplace / name).is_dir() for name in (MODELS, SHARDS)):
        theirs = read_json(path)
        changed = [key for key in mine if theirs.get(key) != mine[key]]
        if changed:
            raise DataError(
                f"{workplace} holds an unfinished regeneration with another {' and '.join(changed)}; finish it with "
                "its own settings, or remove that folder."
            )
    else:
        write_json(path, mine)


def appearance_ranks(split: Split, data: EncodedSplit) -> NDArray[np.int64]:
    """Places of first appearance over whole histories, held-out events included: the release's order, for parity."""
    parts = [split.part(name).select("user_id", "item_id", "position") for name in ("train", "validation", "test")]
    events = pl.concat(parts).collect(engine="streaming").sort("user_id", "position")
    users = events["user_id"].rle_id().to_numpy().astype(np.int64)
    return first_appearance(users, data.items.encode(events["item_id"], unknown=-1), len(data.items))
