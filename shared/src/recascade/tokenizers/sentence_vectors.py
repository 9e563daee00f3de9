"""Vectors of a sentence encoder, for whoever has one."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, MissingDependencyError


def sentence_vectors(texts: pl.Series, model: str) -> NDArray[np.float32]:
    """Encode N texts with a model of the library sentence-transformers, as TIGER does with Sentence-T5.

    Args:
        texts: N strings; null is the empty text.
        model: name or folder of the model.

    Returns:
        float32 ``[N, d]``.

    Raises:
        MissingDependencyError: the library is not installed.
        ConfigurationError: the model cannot be loaded.
    """
    try:
        library: Any = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise MissingDependencyError(
            "tokenizer.content.source=sentence-transformers needs the package sentence-transformers; install it with "
            "pip install 'recascade-shared[text]'."
        ) from error
    try:
        encoder = library.SentenceTransformer(model)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The model {model!r} cannot be loaded ({error}); set tokenizer.content.model to a name or folder that "
            "sentence-transformers knows."
        ) from error
    vectors = encoder.encode(texts.fill_null("").to_list(), convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)
