"""Lists in order, over HTTP: the student's scores of all requests that are there at the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recascade.data.reranking_inputs import RerankingInputs
from recascade.nn.list_order import order_by_scores
from recascade.serving.http import Route
from recascade.serving.metrics import Metrics
from recascade.serving.micro_batches import MicroBatches
from recascade_psad.engines import Engine
from recascade_psad.requests import RerankRequest, batch_of, read_request
from recascade_psad.serve_config import ServeConfig


class PSADService:
    """Answers from one student. Safe to use from threads.

    Args:
        engine: computes scores.
        inputs: turn requests into batches.
        items: identifier → number; empty where candidates are known by their features only.
        users: identifier → number.
        config: size of batches.
    """

    def __init__(
        self,
        engine: Engine,
        inputs: RerankingInputs,
        items: Mapping[str, int],
        users: Mapping[str, int],
        config: ServeConfig,
    ) -> None:
        self._engine = engine
        self._inputs = inputs
        self._items = items
        self._users = users
        self._batches: MicroBatches[RerankRequest, dict[str, Any]] = MicroBatches(
            self.rerank, config.batch, config.wait_milliseconds / 1000
        )

    def rerank(self, requests: Sequence[RerankRequest]) -> list[dict[str, Any]]:
        """``items`` best first and their ``scores``, for each request."""
        batch = batch_of(requests, self._inputs)
        scores = self._engine.scores(batch)
        order = order_by_scores(scores, batch.candidate_mask, scores.shape[1])
        answers = []
        for request, places, row in zip(requests, order.tolist(), scores.tolist(), strict=True):
            first = places[: request.count]
            answers.append(
                {"items": [request.names[place] for place in first], "scores": [row[place] for place in first]}
            )
        return answers

    def routes(self) -> list[Route]:
        """``POST /rerank``; see ``recascade_psad.requests.read_request``."""
        return [Route("POST", "/rerank", self._answer)]

    def health(self) -> dict[str, Any]:
        """Facts of what answers."""
        return {
            "engine": self._engine.name,
            "items": len(self._items),
            "users": len(self._users),
            "most_candidates": self._inputs.candidates,
        }

    def follow(self, metrics: Metrics) -> None:
        """Publish how requests come together; their quotient is the mean size of a batch."""
        metrics.follow("counter", "recascade_batches", "Batches of requests scored.", lambda: self._batches.batches)
        metrics.follow("counter", "recascade_batched_requests", "Requests in them.", lambda: self._batches.requests)

    def close(self) -> None:
        """Answer what has been asked, then end."""
        self._batches.close()

    def _answer(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._batches.answer(read_request(values, self._inputs, self._items, self._users))
