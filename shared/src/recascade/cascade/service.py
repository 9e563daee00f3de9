"""What a cascade can be asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock, Timer
from typing import Any

import numpy as np

from recascade.cascade.answer import Answer
from recascade.cascade.catalogue import Catalogue
from recascade.cascade.explanation import explain
from recascade.cascade.histories import Histories, request
from recascade.cascade.live_stages import SLOTS, LiveStages
from recascade.cascade.new_items import NewItems
from recascade.cascade.pipeline import Pipeline
from recascade.contracts.context import Context
from recascade.errors import RecascadeError
from recascade.serving.http import Route
from recascade.serving.metrics import Metrics
from recascade.serving.parameters import RequestError, check_names, text, texts, whole_number

MOST_ITEMS = 1000
USUAL_ITEMS = 10
MOST_EVENTS = 1000
_SAMPLE_USERS = 50
_LATEST_TIME = 1 << 40
_SECONDS_OF_THE_LONGEST_REQUEST = 10.0
_MOST_NEW_ITEMS = 10_000


class CascadeService:
    """Lists for users, from whatever stages are live.

    Args:
        stages: to begin with.
        pipeline: asks them.
        catalogue: the items.
        histories: of the users.
        load: the stages of another trained cascade, by the path of its folder.
        metrics: where it notes what stages take and miss.
    """

    def __init__(
        self,
        stages: LiveStages,
        pipeline: Pipeline,
        catalogue: Catalogue,
        histories: Histories,
        load: Callable[[str], LiveStages],
        metrics: Metrics,
    ) -> None:
        self._stages = stages
        self._pipeline = pipeline
        self._catalogue = catalogue
        self._histories = histories
        self._load = load
        self._new = NewItems(len(catalogue))
        self._changes = Lock()
        self._seconds = metrics.timer("recascade_stage_seconds", "Time of each stage of a request.", "stage")
        self._missed = metrics.counter(
            "recascade_degraded", "Stages that something else stood in for.", ("stage", "problem")
        )
        metrics.follow_facts("recascade_versions", "The stages that answer.", lambda: self._stages.versions)

    @property
    def stages(self) -> LiveStages:
        """The stages that the next request is answered by."""
        return self._stages

    def routes(self) -> list[Route]:
        """What can be asked."""
        return [
            Route("GET", "/recommend", self._recommend),
            Route("POST", "/recommend", self._recommend),
            Route("GET", "/explain", self._explain),
            Route("POST", "/explain", self._explain),
            Route("GET", "/users", self._users),
            Route("POST", "/events", self._add_event),
            Route("POST", "/items", self._add_item, local=True),
            Route("POST", "/admin/swap", self._swap, local=True),
        ]

    def health(self) -> dict[str, Any]:
        """Facts for ``/health``."""
        return {"users": len(self._histories), "items": len(self._catalogue), "versions": self._stages.versions}

    def recommend(self, context: Context, k: int, user: str = "") -> Answer:
        """The list of one request, by the stages that are live when it comes."""
        answer = self._pipeline.answer(self._stages, context, k, user, self._new)
        for stage in answer.stages:
            self._seconds(stage.slot, stage.seconds)
            if stage.problem:
                self._missed(stage.slot, stage.problem)
        return answer

    def swap(self, slot: str, other: LiveStages) -> None:
        """Replace one stage; requests under way end with the stages they began with.

        The stages of ``other`` that are not taken are closed, and the one that is replaced when nobody uses it any
        more.
        """
        with self._changes:
            before = self._stages
            self._stages = before.swapped(slot, other)
        other.close(each for each in SLOTS if each != slot)
        if getattr(before, slot) is not getattr(self._stages, slot):
            later = Timer(_SECONDS_OF_THE_LONGEST_REQUEST, before.close, args=([slot],))
            later.daemon = True
            later.start()

    def close(self) -> None:
        """Stop; called after the last answer."""
        self._pipeline.close()
        self._stages.close()

    def _recommend(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "history", "k", "time"))
        context, known = self._context(values)
        answer = self.recommend(context, _length(values), str(values.get("user", "")))
        items = answer.items(_length(values))
        return {
            "items": [self._catalogue.names[item] for item in items],
            "known": known,
            "degraded": answer.degraded,
            "milliseconds": answer.milliseconds,
            "versions": answer.versions,
        }

    def _explain(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "history", "k", "time"))
        context, known = self._context(values)
        answer = self.recommend(context, _length(values), str(values.get("user", "")))
        return {"known": known, **explain(answer, context, self._catalogue, _length(values))}

    def _users(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ())
        return {"users": self._histories.sample(_SAMPLE_USERS)}

    def _add_event(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "items", "time"))
        user, names = text(values, "user"), texts(values, "items", MOST_EVENTS)
        moment = whole_number(values, "time", 0, 0, _LATEST_TIME) if "time" in values else None
        self._histories.add(user, self._catalogue.numbers(names), moment)
        return {"user": user, "added": len(names)}

    def _add_item(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("item", "like", "title"))
        name, like = text(values, "item"), text(values, "like")
        title = text(values, "title") if "title" in values else ""
        (twin,) = self._catalogue.numbers([like])
        with self._changes:
            if twin >= self._new.trained:
                raise RequestError(
                    f"The item {like!r} of 'like' is new itself; name one that the stages were trained on."
                )
            known = self._catalogue.number(name)
            if known is not None and known < self._new.trained:
                raise RequestError(f"The stages know the item {name!r} from training; it needs no 'like'.")
            if known is None and len(self._new) >= _MOST_NEW_ITEMS:
                raise RequestError(f"There are {_MOST_NEW_ITEMS:,} new items already; train again.")
            # The item gets its name before any list can hold it.
            self._new = self._new.with_twin(self._catalogue.add(name, title), twin)
        return {"item": name, "like": like, "new_items": len(self._new)}

    def _swap(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("stage", "cascade"))
        slot, folder = text(values, "stage"), text(values, "cascade")
        if slot not in SLOTS:
            raise RequestError(f"The parameter 'stage' is {slot!r}; it must be one of {', '.join(SLOTS)}.")
        try:
            other = self._load(folder)
        except RecascadeError as error:
            raise RequestError(str(error)) from error
        self.swap(slot, other)
        return {"versions": self._stages.versions}

    def _context(self, values: Mapping[str, Any]) -> tuple[Context, bool]:
        """The request, and whether anything is known of its user."""
        now = whole_number(values, "time", 0, 0, _LATEST_TIME) if "time" in values else None
        if "history" in values:
            if "user" in values:
                raise RequestError("Give either 'user', whose history is known here, or 'history', not both.")
            items = self._catalogue.numbers(texts(values, "history", MOST_EVENTS))
            return request(-1, np.array(items, dtype=np.int64), np.zeros(len(items), np.int64), now), True
        user = text(values, "user")
        return self._histories.context(user, now), self._histories.known(user)


def _length(values: Mapping[str, Any]) -> int:
    return whole_number(values, "k", USUAL_ITEMS, 1, MOST_ITEMS)
