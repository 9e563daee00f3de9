"""What decoding finds for every event of another domain: users in, replacements out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.data.events import offsets_of, ranges
from recascade.data.next_item import TrainingWindows
from recascade.models.post_norm_sasrec import PostNormSASRec
from recascade.threads import one_thread
from recascade_taesar.decoding import ContrastiveDecoder, PlaceStates
from recascade_taesar.models import RegenerationModels

# Events whose states of all models are held at a time: 2 MB per model at a width of 128. More of them were no faster
# and cost memory. Our choice, measured.
_EVENTS = 1 << 12


@dataclass(frozen=True)
class Decoded:
    """What is to stand at N events, for one target domain.

    Attributes:
        items: int32 ``[N]``, item of the target domain; -1 where nothing is (deleted, or never a place).
        scores: float32 ``[N]``, the score that decided; NaN where an event was no place.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


def decode_windows(
    data: EncodedSplit,
    windows: TrainingWindows,
    models: RegenerationModels,
    decoder: ContrastiveDecoder,
    targets: Sequence[int],
    first: int,
    last: int,
) -> dict[int, Decoded]:
    """Decode the events that follow the windows' inputs.

    Args:
        data: the encoded split, with item domains.
        windows: input events; each one's successor is a place if it belongs to another domain than the target.
        models: of the decoder.
        decoder: scores and decides.
        targets: domains to decode for, in one pass.
        first: the result begins at this event of ``data.events``
        last: and ends before this one.
    """
    assert data.item_domains is not None
    found = {
        domain: Decoded(np.full(last - first, -1, np.int32), np.full(last - first, np.nan, np.float32))
        for domain in targets
    }
    items, codes = np.asarray(data.events.items), data.item_domains.codes
    order = np.argsort(windows.lengths, kind="stable")
    total = np.cumsum(windows.lengths[order])
    cuts = np.searchsorted(total, np.arange(_EVENTS, total[-1] if len(total) else 0, _EVENTS))

    def decode_piece(piece: NDArray[np.int64]) -> None:
        events = ranges(windows.starts[piece], windows.lengths[piece])
        sources = codes[items[events + 1]].astype(np.int64)
        states = _PieceStates(models, _context(items[events], windows.lengths[piece]), sources, targets)
        for source in np.unique(sources).tolist():
            rows = np.flatnonzero(sources == source)
            others = [domain for domain in targets if domain != source]
            if not others:
                continue
            places = PlaceStates(
                states.mixed(rows),
                states.expert(source, rows),
                {domain: states.expert(domain, rows) for domain in others},
            )
            replaced_events = events[rows] + 1 - first
            for domain, replaced in decoder.decode(places, source).items():
                columns, scores = replaced.columns.cpu().numpy(), replaced.scores.cpu().numpy()
                kept = columns >= 0
                found[domain].items[replaced_events[kept]] = decoder.blocks.order[columns[kept]]
                found[domain].scores[replaced_events] = scores

    # Each piece writes to places of its own. A thread that has a piece to itself waits for nobody, while threads that
    # share each small operation wait for one another all the time.
    on_cpu = models.mixed.item_embedding.device.type == "cpu"
    with ThreadPoolExecutor(torch.get_num_threads() if on_cpu else 1, "decode") as pool, one_thread():
        for _ in pool.map(decode_piece, np.split(order, cuts)):
            pass
    return found


class _PieceStates:
    """States of T events of some windows, of every model only where decoding will ask for them.

    Args:
        models: the models.
        context: the windows.
        sources: int64 ``[T]``, the domain of the event that follows each.
        targets: domains to decode for.
    """

    def __init__(
        self, models: RegenerationModels, context: Context, sources: NDArray[np.int64], targets: Sequence[int]
    ) -> None:
        wanted = np.zeros(len(sources), dtype=np.bool_)
        self._experts: dict[int, tuple[Tensor, NDArray[np.int64]]] = {}
        for domain, expert in enumerate(models.experts):
            as_source = (sources == domain) & (set(targets) != {domain})
            asked = as_source | (sources != domain) if domain in targets else as_source
            wanted |= asked
            if asked.any():
                self._experts[domain] = _states(expert, context, asked), np.cumsum(asked) - 1
        self._mixed = _states(models.mixed, context, wanted), np.cumsum(wanted) - 1

    def mixed(self, rows: NDArray[np.int64]) -> Tensor:
        """``[P, d]``, the mixed model's states of these events."""
        states, places = self._mixed
        return states[torch.from_numpy(places[rows])]

    def expert(self, domain: int, rows: NDArray[np.int64]) -> Tensor:
        """``[P, d]``, an expert's states of these events."""
        states, places = self._experts[domain]
        return states[torch.from_numpy(places[rows])]


@torch.inference_mode()
def _states(model: PostNormSASRec, context: Context, asked: NDArray[np.bool_]) -> Tensor:
    device = model.item_embedding.device
    rows = torch.from_numpy(np.flatnonzero(asked)).to(device)
    return model.states(context.to(device), rows)


def _context(items: NDArray[np.int32], lengths: NDArray[np.int64]) -> Context:
    """Sequences of these items; the models read neither users nor times."""
    tokens = torch.from_numpy(items.astype(np.int64))
    users = torch.arange(len(lengths))
    return Context(users, tokens, torch.zeros_like(tokens), torch.from_numpy(offsets_of(lengths)))
