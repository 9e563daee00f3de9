"""Constrained beam search over a large catalogue, and what its masks cost."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.models.decoder_only import DecoderOnly
from recascade.nn.beam_search import beam_search
from recascade.nn.captured_beam_search import CapturedBeamSearch
from recascade.nn.code_tree import Continuations
from recascade.nn.prefix_trie import PrefixTrie
from scale.device import Device

SIZES, HISTORY = (256, 256, 256), 20


class TimedTrie:
    """A trie that adds up the seconds of its answers; on a GPU each one waits, which makes them longer, not shorter."""

    def __init__(self, trie: PrefixTrie, device: Device) -> None:
        self.trie, self.device = trie, device
        self.sizes = trie.sizes
        self.seconds = 0.0

    def continuations(self, nodes: Tensor, level: int) -> Continuations:
        """As the trie's."""
        begun = self.device.now()
        found = self.trie.continuations(nodes, level)
        self.seconds += self.device.now() - begun
        return found


def figures(device: Device, *, items: int, requests: int, beams: int) -> dict[str, float]:
    """Requests per second, the masks' share of the search, and seconds of a search, also as one CUDA graph."""
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(size, (items,)) for size in SIZES], dim=1)
    trie = PrefixTrie.build(codes, SIZES).to(device.kind)
    model = DecoderOnly(codes, SIZES, max_length=HISTORY).eval().to(device.kind)
    torch.nn.init.normal_(model.output.table)
    chosen = torch.randint(items, (requests * HISTORY,))
    offsets = torch.arange(requests + 1) * HISTORY
    context = Context(torch.arange(requests), chosen, torch.zeros_like(chosen), offsets).to(device.kind)
    widths = (beams,) * len(SIZES)
    with torch.inference_mode():
        state = model.encode(context)
        seconds = device.seconds(lambda: beam_search(model, state, trie, widths), 2)
        timed = TimedTrie(trie, device)
        begun = device.now()
        beam_search(model, state, timed, widths)
        share = timed.seconds / (device.now() - begun)
    result = {"requests_per_second": requests / seconds, "mask_share": share, "seconds": seconds}
    if device.gpu:
        with torch.no_grad():
            state = model.encode(context)
            search = CapturedBeamSearch(model, state, trie, widths)
            result["captured_seconds"] = device.seconds(lambda: search(state))
    return result
