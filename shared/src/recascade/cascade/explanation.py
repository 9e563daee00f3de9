"""An answer told to people: the history, each stage's list, and where its items stood before."""

from __future__ import annotations

import math
from typing import Any

from recascade.cascade.answer import Answer
from recascade.cascade.catalogue import Catalogue
from recascade.contracts.context import Context

SHOWN_EVENTS = 20


def explain(answer: Answer, context: Context, catalogue: Catalogue, k: int) -> dict[str, Any]:
    """For JSON: the latest events, newest first, and the first ``k`` items after each stage.

    Each item says its score (null where there is none) and ``before``, its place (from 1) in the list of the stage
    before; null in the retriever's list.
    """
    newest = context.items[-SHOWN_EVENTS:].flip(0).tolist()
    stages: list[dict[str, Any]] = []
    places: dict[int, int] | None = None
    for stage in answer.stages:
        items, scores = stage.best.items[0].tolist(), stage.best.scores[0].tolist()
        shown = [(item, score) for item, score in zip(items[:k], scores[:k], strict=True) if item >= 0]
        stages.append(
            {
                "stage": stage.slot,
                "name": stage.name,
                "problem": stage.problem,
                "milliseconds": round(1000 * stage.seconds, 3),
                "items": [
                    {
                        **_described(item, catalogue),
                        "score": score if math.isfinite(score) else None,
                        "before": None if places is None else places.get(item),
                        "in_history": bool((context.items == item).any()),
                    }
                    for item, score in shown
                ],
            }
        )
        places = {item: place for place, item in enumerate(items, start=1)}
    return {
        "events": len(context.items),
        "history": [_described(item, catalogue) for item in newest],
        "stages": stages,
        "degraded": answer.degraded,
        "milliseconds": answer.milliseconds,
    }


def _described(item: int, catalogue: Catalogue) -> dict[str, str]:
    return {"item": catalogue.names[item], "title": catalogue.title(item)}
