"""What the relay's works are in PyTorch."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recascade.contracts.ranker import PrefixRanker
from recascade.errors import DataError
from recascade_relaygr.engine.history import RankInput
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.relay.device import Work


class HostCopy(NamedTuple):
    """A prefix in host memory: ``[layers, tokens, width]`` (pinned where there is a GPU), and the sum of its words."""

    states: Tensor
    checksum: int


class TorchWorks:
    """Does works in the calling thread.

    Args:
        ranker: a ``PrefixRanker`` in evaluation mode, on ``device``.
        memory: of the prefix cache, on ``device``.
        device: where the ranker computes.
        dtype: that it computes with.
    """

    def __init__(
        self,
        ranker: PrefixRanker,
        memory: PrefixMemory,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.ranker = ranker
        self.memory = memory
        self.device = torch.device(device)
        self.dtype = dtype

    @torch.inference_mode()
    def compute(self, work: Work) -> Any:
        """Do a work; the result of ``copy`` is a ``HostCopy``, of ``rank`` and ``full`` float32 ``[k]`` on the CPU.

        Raises:
            DataError: states or scores are not numbers, or a copy was damaged.
        """
        if work.kind == "prefill":
            return self._prefill(work)
        if work.kind == "reload":
            return self._reload(work)
        if work.kind == "copy":
            return self._copy(work)
        return self._scores(work)

    def _prefill(self, work: Work) -> None:
        history = self._moved(work.payload).first(work.end)
        past = self.memory.read(work.pages, work.begin, self.dtype)
        states = self.ranker.prefill(history, past)
        if not _all_finite(states):
            raise DataError("The states of a prefix are not finite numbers.")
        self.memory.write(work.pages, work.begin, states)

    def _reload(self, work: Work) -> None:
        copy: HostCopy = work.payload
        if _checksum(copy.states) != copy.checksum:
            raise DataError("A copy of a prefix in host memory was damaged.")
        self.memory.write(work.pages, 0, copy.states.to(self.device, non_blocking=True))

    def _copy(self, work: Work) -> HostCopy:
        pieces = self.memory.read(work.pages, work.end, self.memory.states.dtype)
        shape = (pieces[0].shape[0], work.end, pieces[0].shape[2])
        gpu = self.device.type == "cuda"
        states = torch.empty(shape, dtype=self.memory.states.dtype, pin_memory=gpu)
        place = 0
        for piece in pieces:
            states[:, place : place + piece.shape[1]].copy_(piece, non_blocking=gpu)
            place += piece.shape[1]
        if gpu:
            torch.cuda.current_stream(self.device).synchronize()
        return HostCopy(states, _checksum(states))

    def _scores(self, work: Work) -> Tensor:
        request: RankInput = self._moved(work.payload)
        if work.kind == "rank":
            states = self.memory.read(work.pages, work.end, self.dtype)
            scores = self.ranker.score_on(states, request.history, _items(request))
        else:
            shortened = request.with_prefix(work.sizes.prefix)
            scores = self.ranker.score(shortened.history, _items(shortened))
        scores = scores[0].cpu()
        if not _all_finite(scores):
            raise DataError("The scores are not finite numbers.")
        return scores

    def _moved(self, payload: RankInput) -> RankInput:
        if self.device.type == "cpu":
            return payload
        items = None if payload.items is None else payload.items.to(self.device, non_blocking=True)
        return RankInput(payload.history.to(self.device, non_blocking=True), payload.prefix, items)


def _items(request: RankInput) -> Tensor:
    assert request.items is not None
    return request.items


def _all_finite(numbers: Tensor) -> bool:
    # An infinite term or one that is no number shows in the sum, which needs no mask in memory.
    return isfinite(numbers.sum(dtype=torch.promote_types(numbers.dtype, torch.float32)).item())


def _checksum(states: Tensor) -> int:
    """Sum of the states' words, modulo 2^64, which any changed word changes."""
    words = states.flatten()
    # Of narrower words PyTorch would make a copy in 64 bits first, four times the size of the states.
    if words.numel() * words.element_size() % 8 == 0:
        return int(words.view(torch.int64).sum())
    return int(words.view(torch.int16).sum(dtype=torch.int64))
