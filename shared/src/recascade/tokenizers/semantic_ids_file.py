"""Semantic ids as one Parquet file: a row per item, and in its header all that gives codes to new items."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import SafetensorError

from recascade.errors import DataError
from recascade.files import write_atomically
from recascade.tokenizers.config import ConflictConfig
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.item_tokenizer import ItemTokenizer
from recascade.tokenizers.semantic_ids import SemanticIds

FORMAT = 1
"""Of the file's layout."""
TOKENIZER_VERSION = 1
"""Rises when the same codebooks would give a new item another code than before."""
_HEADER = b"recascade.semantic_ids"
_ARRAYS = b"recascade.semantic_ids.arrays"
# Codebooks of many levels exceed the reader's usual limit of 100 MB for one value of the header.
_LARGEST_HEADER = 2**31 - 1


def save_semantic_ids(ids: SemanticIds, path: Path) -> None:
    """Write the table atomically: ``item_id`` and int32 ``level_1`` … ``level_L``.

    The header holds JSON (format, tokenizer and its version, sizes, hash keys and salt, conflict policy, fingerprint of
    the data) and the learned arrays as safetensors in base64.
    """
    codes = ids.codes
    columns: dict[str, Any] = {"item_id": pa.array(ids.item_ids, type=pa.string())}
    columns |= {f"level_{level}": codes[:, level - 1] for level in range(1, len(ids.sizes) + 1)}
    arrays = base64.b64encode(safetensors.numpy.save(_contiguous(ids)))
    header = json.dumps(_header(ids)).encode()
    table = pa.table(columns).replace_schema_metadata({_HEADER: header, _ARRAYS: arrays})
    with write_atomically(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def load_semantic_ids(path: Path) -> SemanticIds:
    """Read what ``save_semantic_ids`` wrote.

    Raises:
        DataError: there is no such file, it is damaged or no table of semantic ids, or it was written by another format
            or tokenizer version.
    """
    try:
        table = pq.read_table(
            path, thrift_string_size_limit=_LARGEST_HEADER, thrift_container_size_limit=_LARGEST_HEADER
        )
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; make it with 'recascade tokenize'.") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a complete Parquet file; make it again with 'recascade tokenize'.") from error
    stored = table.schema.metadata or {}
    if _HEADER not in stored:
        raise DataError(f"{path} is no table of semantic ids; make one with 'recascade tokenize'.")
    header = json.loads(stored[_HEADER])
    for key, ours in (("format", FORMAT), ("tokenizer_version", TOKENIZER_VERSION)):
        if header.get(key) != ours:
            raise DataError(
                f"{path} was written by {key.replace('_', ' ')} {header.get(key)}, but this installation has {ours}; "
                "make it again with 'recascade tokenize', and train anew what was trained with it."
            )
    try:
        arrays = safetensors.numpy.load(base64.b64decode(stored[_ARRAYS]))
        hashed = header["hashed"]
        level = HashedLevel(hashed["size"], tuple(hashed["keys"]), hashed["salt"]) if hashed else None
        tokenizer = ItemTokenizer.from_arrays(header["tokenizer"], arrays, normalise=header["normalise"], hashed=level)
        levels = [table[f"level_{level}"].to_numpy() for level in range(1, len(header["sizes"]) + 1)]
        codes = np.stack(levels, axis=1).astype(np.int32)
        conflicts = ConflictConfig(**header["conflicts"])
        return SemanticIds(table["item_id"].to_pylist(), codes, tokenizer, conflicts, header["fingerprint"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataError(
            f"The header of {path} is damaged ({error}); make the file again with 'recascade tokenize'."
        ) from error


def signature(ids: SemanticIds) -> str:
    """16 hexadecimal digits over the tokenizer and its codebooks: equal where new items would get equal codes.

    A model keeps it beside its weights, since a code means nothing to codebooks that it was not trained with.
    """
    digest = hashlib.sha256(json.dumps(_header(ids), sort_keys=True).encode())
    digest.update(safetensors.numpy.save(_contiguous(ids)))
    return digest.hexdigest()[:16]


def require_signature(ids: SemanticIds, expected: str, path: Path) -> None:
    """Refuse a table whose tokenizer is not the one that a model was trained with.

    Raises:
        DataError: naming the file.
    """
    found = signature(ids)
    if found != expected:
        raise DataError(
            f"{path} was made by another tokenizer ({found}) than the model was trained with ({expected}); use the "
            "table that the training used, or train anew."
        )


def _header(ids: SemanticIds) -> dict[str, Any]:
    hashed = ids.tokenizer.hashed
    return {
        "format": FORMAT,
        "tokenizer": ids.tokenizer.name,
        "tokenizer_version": TOKENIZER_VERSION,
        "sizes": list(ids.sizes),
        "normalise": ids.tokenizer.normalise,
        "hashed": None if hashed is None else asdict(hashed),
        "conflicts": asdict(ids.conflicts),
        "fingerprint": ids.fingerprint,
    }


def _contiguous(ids: SemanticIds) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array) for name, array in ids.tokenizer.arrays().items()}
