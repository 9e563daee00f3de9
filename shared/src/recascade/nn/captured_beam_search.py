"""Beam search as one CUDA graph: a thousand small kernels started by one call instead of one by one.

A graph repeats what was done when it was captured, at the same addresses. So the state of the requests lives in tensors
of its own, into which the state of every further batch is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Generic

import torch
from torch import Tensor

from recascade.contracts.generator import Generator, State
from recascade.errors import ConfigurationError
from recascade.nn.beam_cache import BeamCache
from recascade.nn.beam_search import FoundIds, beam_search
from recascade.nn.code_tree import CodeTree


class CapturedBeamSearch(Generic[State]):
    """``beam_search`` for batches whose states have the shapes of the first one.

    On CUDA the search is captured once and then replayed; elsewhere it runs as it is, from the same tensors. Afterwards
    the model's weights may change in place, but neither they nor the tree may be replaced: make another search for
    another tree.

    A tool for callers who keep their shapes fixed, and of ``benchmarks/scale``. ``GenerativeRetriever`` does not use
    it: its batches end in a smaller one, lists without seen items and traffic-aware beams ask for other widths from
    request to request, a live index replaces the tree, and each of these would be another capture with memory of its
    own.

    Args:
        generator: what gives the probabilities, in evaluation mode.
        state: of the first batch, from ``generator.encode``; its tensors give the shapes.
        tree: the ids to choose from, on the state's device.
        widths: beams kept after each level, see ``beam_search``.
    """

    def __init__(self, generator: Generator[State], state: State, tree: CodeTree, widths: Sequence[int]) -> None:
        self.generator, self.tree, self.widths = generator, tree, tuple(widths)
        with torch.no_grad():
            self._state = deepcopy(state)
        self._tensors = list(_tensors(self._state))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._found: FoundIds | None = None
        if state.device.type == "cuda":
            self._capture()

    def __call__(self, state: State) -> FoundIds:
        """What ``beam_search`` finds for the B requests of this state.

        On CUDA the result's tensors are overwritten by the next call.

        Raises:
            ConfigurationError: the state has other shapes than the first one.
        """
        given = list(_tensors(state))
        shapes, expected = ([tuple(tensor.shape) for tensor in tensors] for tensors in (given, self._tensors))
        if shapes != expected:
            raise ConfigurationError(
                f"A captured beam search was made for {self._state.batch_size} requests whose state has the shapes "
                f"{expected}, but was called with {state.batch_size} requests and {shapes}. Keep the batch size and "
                "the bound of the histories fixed, or make another search for these."
            )
        with torch.no_grad():
            for kept, new in zip(self._tensors, given, strict=True):
                kept.copy_(new)
        if self._graph is None or self._found is None:
            return self._search()
        self._graph.replay()
        return self._found

    def _search(self) -> FoundIds:
        return beam_search(self.generator, self._state, self.tree, self.widths)

    def _capture(self) -> None:
        # PyTorch's rule: run on a side stream first, so that libraries have their workspaces before the capture.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._search()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._found = self._search()


def _tensors(state: object) -> Iterator[Tensor]:
    """Every tensor of a state, in a fixed order, but for the caches of beams, which each search begins anew."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, BeamCache):
        return
    elif isinstance(state, list):
        for part in state:
            yield from _tensors(part)
    elif hasattr(state, "__dict__"):
        for part in vars(state).values():
            yield from _tensors(part)
