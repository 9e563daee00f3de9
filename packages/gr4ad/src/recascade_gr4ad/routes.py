"""What the service can be asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.errors import DataError
from recascade.serving.http import Route
from recascade.serving.parameters import RequestError, check_names, text, texts, whole_number
from recascade_gr4ad.service import GR4ADService

MOST_ITEMS = 1000
MOST_HISTORY = 1000
MOST_CHANGES = 1000
USUAL_ITEMS = 10
VECTOR = "vector"
ContentEncoder = Callable[[pl.DataFrame], NDArray[np.float32]]


class Routes:
    """``GET`` and ``POST /recommend``, ``POST /items`` (add or change ads), ``POST /items/delete``; changes
    are taken from this machine only.

    Args:
        service: who answers.
        encode: vectors float32 ``[n, d]`` of ads that come with their content instead of a vector; None where the run
            left nothing that could make them.
    """

    def __init__(self, service: GR4ADService, encode: ContentEncoder | None) -> None:
        self._service = service
        self._encode = encode

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/recommend", self._recommend),
            Route("POST", "/recommend", self._recommend),
            Route("POST", "/items", self._upsert, local=True),
            Route("POST", "/items/delete", self._delete, local=True),
        ]

    def _recommend(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "k", "placement", "history"))
        user, length = text(values, "user"), whole_number(values, "k", USUAL_ITEMS, 1, MOST_ITEMS)
        history = texts(values, "history", MOST_HISTORY) if "history" in values else None
        placement = text(values, "placement") if "placement" in values else ""
        answer = self._service.recommend(user, length, history=history, placement=placement)
        return {"user": user, **asdict(answer), "synthetic_values": self._service.run.synthetic}

    def _upsert(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("items",))
        rows = values.get("items")
        if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_CHANGES:
            raise RequestError(f"The parameter 'items' must be a list of 1 to {MOST_CHANGES} ads.")
        for row in rows:
            if not isinstance(row, dict):
                raise RequestError("Each of 'items' must be an object with 'item_id' and a 'vector' or its content.")
        names = [text(row, "item_id") for row in rows]
        try:
            fields = pl.DataFrame(
                [{**row, VECTOR: None, "item_id": name} for row, name in zip(rows, names, strict=True)],
                infer_schema_length=None,
            )
            snapshot = self._service.index.upsert(names, self._vectors(rows, fields), fields.drop(VECTOR))
        except (DataError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise RequestError(f"Nothing was changed: {error}") from error
        return {"items": len(snapshot), "version": snapshot.version}

    def _delete(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("items",))
        try:
            snapshot = self._service.index.delete(texts(values, "items", MOST_CHANGES))
        except DataError as error:
            raise RequestError(f"Nothing was changed: {error}") from error
        return {"items": len(snapshot), "version": snapshot.version}

    def _vectors(self, rows: list[dict[str, Any]], fields: pl.DataFrame) -> NDArray[np.float32]:
        given = [row.get(VECTOR) for row in rows]
        if all(isinstance(vector, list) for vector in given):
            vectors = np.array(given, dtype=np.float32)
            if vectors.ndim == 2 and np.isfinite(vectors).all():
                return vectors
            raise DataError("A vector holds something that is not a finite number.")
        if any(vector is not None for vector in given):
            raise DataError("Some ads have a 'vector' that is a list and some have not; send them apart.")
        if self._encode is None:
            raise DataError("This run cannot read the content of ads; send each with its 'vector'.")
        return self._encode(fields)
