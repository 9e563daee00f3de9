"""The semantic ids of one run: a generator and its ids belong together, so the run directory keeps both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recascade.errors import DataError
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import load_semantic_ids, save_semantic_ids

IDS_FILE = "semantic_ids.parquet"
"""In the directory of a run, the ids that its model was trained with."""


def ids_of_run(
    directory: Path, given: Path | str | None, make: Callable[[], SemanticIds], *, fingerprint: str
) -> SemanticIds:
    """Those that the run began with, those of the given file, or new ones; kept in the run directory.

    Args:
        directory: of the run.
        given: a file that ``recascade tokenize`` or another run has written; None or empty for none.
        make: makes new ids; called only if there are no others.
        fingerprint: of the run's split.

    Raises:
        DataError: the given ids were tuned on the training events of another split, which may be held out here.
    """
    kept = directory / IDS_FILE
    if kept.exists():
        return load_semantic_ids(kept)
    ids = load_semantic_ids(Path(given).expanduser()) if given else make()
    if ids.tokenizer.projection is not None and ids.fingerprint != fingerprint:
        raise DataError(
            f"The ids of {given} were tuned on training events of split {ids.fingerprint}, but this run's split is "
            f"{fingerprint}, which may hold some of them out. Make ids with the split settings of this run, or without "
            "tokenizer.contrastive."
        )
    save_semantic_ids(ids, kept)
    return ids
