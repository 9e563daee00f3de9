"""One depth of a prefix trie: its nodes in sorted tensors, and those that insertions added behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recascade.nn.code_tree import Continuations


@dataclass(frozen=True, eq=False)
class TrieLevel:
    """n + e nodes, each known by its key, ``parent * size + code``.

    Nodes 0…n-1 are sorted by key, so the children of a parent are neighbours. The e added nodes are sorted among
    themselves and numbered from n on.

    Attributes:
        size: how many codes the level has.
        keys: int64 ``[n]``, ascending.
        starts: int32 ``[parents + 1]``: the children of parent p are nodes ``starts[p]`` to ``starts[p + 1]``. Parents
            that were added themselves have only added children.
        added: int64 ``[e]``, ascending; none of them is in ``keys``.
        alive: int32 ``[n + e]``, items below each node; a node with none is as good as absent.
        most: the most children of one parent among the n nodes. Shapes of a search follow from it and not from the
            beams' own nodes, so that no host waits for a device and the search can be captured.
        most_added: likewise, among the e nodes.
    """

    size: int
    keys: Tensor
    starts: Tensor
    added: Tensor
    alive: Tensor
    most: int
    most_added: int

    @classmethod
    def of(cls, parents: Tensor, codes: Tensor, above: int, size: int) -> tuple[TrieLevel, Tensor]:
        """The level below ``above`` parents, for items with these parents and codes (int64 ``[N]``), and their nodes
        int64 ``[N]``."""
        keys, nodes, counts = torch.unique(parents * size + codes, return_inverse=True, return_counts=True)
        borders = torch.arange(above + 1, device=keys.device) * size
        starts = torch.searchsorted(keys, borders, out_int32=True)
        return cls(size, keys, starts, keys[:0], counts.int(), int(starts.diff().max()), 0), nodes

    def __len__(self) -> int:
        return len(self.alive)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keys, starts, added keys, counts."""
        return self.keys, self.starts, self.added, self.alive

    def to(self, device: torch.device | str) -> TrieLevel:
        """The same level on another device."""
        keys, starts, added, alive = (tensor.to(device) for tensor in self.tensors)
        return TrieLevel(self.size, keys, starts, added, alive, self.most, self.most_added)

    def key_of(self, nodes: Tensor) -> Tensor:
        """The keys of nodes, int64 of any shape."""
        if not len(self.added):
            return self.keys[nodes]
        return torch.cat([self.keys, self.added])[nodes]

    def child(self, parents: Tensor, codes: Tensor) -> Tensor:
        """The node of each parent and code (shapes that broadcast), -1 where there is none with items."""
        keys = parents * self.size + codes
        places = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        found = torch.where(self.keys[places] == keys, places, -1)
        if len(self.added):
            places = torch.searchsorted(self.added, keys).clamp(max=len(self.added) - 1)
            found = torch.where(self.added[places] == keys, places + len(self.keys), found)
        real = (parents >= 0) & (codes >= 0) & (codes < self.size) & (found >= 0)
        return torch.where(real & (self.alive[found] > 0), found, -1)

    def continuations(self, parents: Tensor) -> Continuations:
        """The children with items of parents int64 ``[B, n]``."""
        nodes = self._main_children(parents)
        if len(self.added):
            first, last = (torch.searchsorted(self.added, (parents + after) * self.size) for after in (0, 1))
            more = _ranges(first, last, self.most_added)
            nodes = torch.cat([nodes, torch.where(more < 0, -1, more + len(self.keys))], dim=-1)
        keys = self.key_of(nodes)
        missing = (nodes < 0) | (self.alive[nodes] == 0)
        nodes = nodes.masked_fill(missing, -1)
        if len(self.added):
            keys, order = keys.masked_fill(missing, torch.iinfo(torch.int64).max).sort(dim=-1)
            nodes, missing = nodes.gather(-1, order), missing.gather(-1, order)
        codes = (keys - parents[..., None] * self.size).masked_fill(missing, 0)
        return Continuations(codes, nodes)

    def _main_children(self, parents: Tensor) -> Tensor:
        main = parents.clamp(max=len(self.starts) - 2)
        first, last = self.starts[main].long(), self.starts[main + 1].long()
        return _ranges(first, torch.where(parents == main, last, first), self.most)

    def counted(self, nodes: Tensor, change: int) -> TrieLevel:
        """The level with ``change`` added to the items below each of these nodes (int64 ``[m]``, repeats count)."""
        return replace(self, alive=self.alive.index_add(0, nodes, torch.full_like(nodes, change, dtype=torch.int32)))

    def with_added(self, parents: Tensor, codes: Tensor) -> tuple[TrieLevel, Tensor]:
        """The level whose added nodes are those that m items need, counting nothing below them, and the items' nodes.

        Args:
            parents: int64 ``[m]``.
            codes: int64 ``[m]``.
        """
        keys = parents * self.size + codes
        places = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        known = self.keys[places] == keys
        added = torch.unique(keys[~known])
        nodes = torch.where(known, places, len(self.keys) + torch.searchsorted(added, keys))
        counts = torch.nn.functional.pad(self.alive[: len(self.keys)], (0, len(added)))
        siblings = torch.unique_consecutive(added // self.size, return_counts=True)[1]
        most_added = int(siblings.max()) if len(siblings) else 0
        return replace(self, added=added, alive=counts, most_added=most_added), nodes


def _ranges(first: Tensor, last: Tensor, most: int) -> Tensor:
    """``first``, ``first + 1``, … before ``last``, at most ``most``, as the last dimension, -1 behind."""
    places = first[..., None] + torch.arange(most, device=first.device)
    return torch.where(places < last[..., None], places, -1)
