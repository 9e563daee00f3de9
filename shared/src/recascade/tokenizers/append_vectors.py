"""Codes for the items of a file of vectors, with frozen codebooks: in pieces, on this machine or on a Ray cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from recascade.data.cluster import ray_cluster
from recascade.data.cluster_pieces import Row, map_pieces, require_shared, shared_scratch
from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError
from recascade.files import write_atomically
from recascade.tokenizers.given_vectors import read_vectors
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import load_semantic_ids

PIECE_VECTORS = 100_000
"""Vectors that are held at once."""


def append_vectors(table: Path, vectors: Path, piece_vectors: int = PIECE_VECTORS) -> SemanticIds:
    """Give codes to the items of a file, in the order of its rows.

    Args:
        table: a table of semantic ids; it is read, not changed.
        vectors: a Parquet file with a column ``item_id`` and one other column of lists of numbers, made as those that
            the table was fitted on. An item that a level hashes is known by ``item_id`` alone.
        piece_vectors: how many are read at once.

    Returns:
        The ids of the table and of the file.

    Raises:
        DataError: a file cannot be read, an item has a code already or stands twice, a vector has another length than
            the codebooks, or no digit is free.
    """
    ids = load_semantic_ids(table)
    for number in range(_pieces(vectors, piece_vectors)):
        owners, array = read_vectors(vectors, number * piece_vectors, piece_vectors)
        ids.append(owners.to_list(), array)
    return ids


def append_vectors_on_cluster(
    table: Path, vectors: Path, address: str | None = None, piece_vectors: int = PIECE_VECTORS
) -> SemanticIds:
    """Do what ``append_vectors`` does, each piece encoded where Ray has room; conflicts are settled here, in order.

    Args:
        table: see ``append_vectors``; all machines must see it and its folder at the same path.
        vectors: likewise.
        address: of the cluster; None starts one on this machine.
        piece_vectors: vectors that a task encodes.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: the table's conflicts are settled by ``reassign``, or there is no cluster at the address.
        DataError: as ``append_vectors``, or the folder of the table is not shared.
    """
    ids = load_semantic_ids(table)
    if ids.conflicts.policy == "reassign":
        raise ConfigurationError(
            f"{table} has tokenizer.conflicts.policy=reassign, which needs the vectors of all items in one place; "
            "leave --runner ray out."
        )
    pieces: list[Row] = [{"number": number} for number in range(_pieces(vectors, piece_vectors))]
    with ray_cluster(address) as ray, shared_scratch(table) as scratch:
        work = partial(_encode, table.resolve(), vectors.resolve(), scratch, piece_vectors)
        map_pieces(ray, work, pieces)
        require_shared(_file(scratch, pieces[0], "items.parquet"), table)
        for piece in pieces:
            owners = pl.read_parquet(_file(scratch, piece, "items.parquet"))["item_id"]
            ids.append_encoded(owners.to_list(), np.load(_file(scratch, piece, "codes.npy")))
    return ids


def _pieces(vectors: Path, piece_vectors: int) -> int:
    with explain_read_failure(vectors):
        rows = int(pl.scan_parquet(vectors).select(pl.len()).collect().item())
    return max(1, -(-rows // piece_vectors))


def _file(scratch: Path, piece: Row, name: str) -> Path:
    return scratch / f"{piece['number']:06d}-{name}"


def _encode(table: Path, vectors: Path, scratch: Path, piece_vectors: int, piece: Row) -> Row:
    """Write the items of a piece and their codes before conflicts."""
    owners, array = read_vectors(vectors, piece["number"] * piece_vectors, piece_vectors)
    fields = owners.to_frame("item_id")
    codes = load_semantic_ids(table).tokenizer.encode(array, fields)
    with write_atomically(_file(scratch, piece, "items.parquet")) as temporary:
        fields.write_parquet(temporary)
    with write_atomically(_file(scratch, piece, "codes.npy")) as temporary, temporary.open("wb") as file:
        np.save(file, codes)
    return {}
