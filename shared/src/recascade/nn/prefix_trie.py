"""The ids of a catalogue as a prefix tree in a few flat tensors, which a search on any device masks with.

Children of a node stand next to each other (compressed sparse rows, ``recascade.nn.trie_level``). For the levels where
it takes at most 8 MiB, a table of bits also answers at once whether a code may follow (after STATIC, arXiv 2602.22647,
which keeps dense masks of the first two levels; bits instead of bytes let more levels have one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recascade.errors import ConfigurationError, DataError
from recascade.nn.bit_table import BitTable
from recascade.nn.code_tree import Continuations
from recascade.nn.trie_level import TrieLevel

_DENSE_BITS = 1 << 26
# Insertions are looked up beside the main tree; beyond this many, or an eighth of it, everything is built again.
_INSERTIONS_LEAST = 1024
_INSERTIONS_SHARE = 8


class LeafItems(NamedTuple):
    """Items of leaves, flat: ``places`` int64 ``[m]``, ascending, says which of the given leaves; ``items`` int64
    ``[m]``, ascending within a leaf."""

    places: Tensor
    items: Tensor


@dataclass(frozen=True, eq=False)
class PrefixTrie:
    """N items and their ids of L codes; several items may share an id.

    A trie never changes: ``insert`` and ``delete`` return another one that shares what stays the same. A search under
    way keeps its own, the next one sees the change, and none ever sees half of it. A deletion lowers the counts of
    items below the nodes of its path. Insertions live in a list beside the main tree, with nodes of their own where it
    has none; each one goes through that list again, and when it grows beyond 1,024 items and an eighth of the tree,
    everything is built anew.

    Attributes:
        sizes: codes per level.
        levels: the nodes of each depth.
        item_starts: int32 ``[leaves + 1]``, of the main tree.
        items: int32 ``[N]``, by leaf; -1 where deleted.
        inserted_items: int64 ``[K]``; -1 where deleted.
        inserted_paths: int64 ``[K, L]``, the nodes on the way to each.
        places: int32 ``[greatest item + 1]``: the item's place in ``items`` and, counted on, in ``inserted_items``; -1
            for an item that is not there.
    """

    sizes: tuple[int, ...]
    levels: tuple[TrieLevel, ...]
    item_starts: Tensor
    items: Tensor
    inserted_items: Tensor
    inserted_paths: Tensor
    places: Tensor

    @classmethod
    def build(cls, codes: Tensor, sizes: Sequence[int], items: Tensor | None = None) -> PrefixTrie:
        """The trie of N items.

        Args:
            codes: integer ``[N, L]``.
            sizes: how many codes each of the L levels has.
            items: int64 ``[N]``, distinct, from 0; None for 0…N-1.

        Raises:
            DataError: there is no item, or a code lies outside its level, or an item comes twice.
            ConfigurationError: keys of nodes would not fit 63 bits.
        """
        sizes = tuple(sizes)
        codes, items = _checked(codes, sizes, items)
        if not len(codes):
            raise DataError("No item has an id, so there is nothing to generate. Tokenise the catalogue first.")
        if len(codes) * max(sizes) >= 1 << 62:
            raise ConfigurationError(f"A trie of {len(codes):,} items with {max(sizes):,} codes in a level is too big.")
        nodes, levels = torch.zeros_like(items), list[TrieLevel]()
        for number, size in enumerate(sizes):
            level, nodes = TrieLevel.of(nodes, codes[:, number], len(levels[-1]) if levels else 1, size)
            levels.append(level)
        order = torch.argsort(nodes * (int(items.max()) + 1) + items)
        by_leaf = items[order].int()
        places = torch.full((int(items.max()) + 1,), -1, dtype=torch.int32, device=items.device)
        places[by_leaf.long()] = torch.arange(len(items), dtype=torch.int32, device=items.device)
        return cls(
            sizes=sizes,
            levels=tuple(levels),
            item_starts=pad(levels[-1].alive.cumsum(0, dtype=torch.int32), (1, 0)),
            items=by_leaf,
            inserted_items=items[:0],
            inserted_paths=codes[:0],
            places=places,
        )

    @property
    def device(self) -> torch.device:
        """Where the trie lies."""
        return self.items.device

    @property
    def bytes(self) -> int:
        """Memory of the tensors; the bit tables, made when first asked for, come on top (at most 8 MiB per level)."""
        nodes = [tensor for level in self.levels for tensor in level.tensors]
        return sum(tensor.nbytes for tensor in (*nodes, *self._lists))

    @property
    def _lists(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.item_starts, self.items, self.inserted_items, self.inserted_paths, self.places

    def to(self, device: torch.device | str) -> PrefixTrie:
        """The same trie on another device."""
        levels = tuple(level.to(device) for level in self.levels)
        return PrefixTrie(self.sizes, levels, *(tensor.to(device) for tensor in self._lists))

    def continuations(self, nodes: Tensor, level: int) -> Continuations:
        """The children with items of nodes int64 ``[B, n]`` (see ``recascade.nn.code_tree.CodeTree``)."""
        return self.levels[level].continuations(nodes)

    def find(self, codes: Tensor) -> Tensor:
        """The leaf of each whole id (int64 ``[..., L]``): int64 ``[...]``, -1 where no item has it."""
        nodes = torch.zeros_like(codes[..., 0])
        for number, level in enumerate(self.levels):
            nodes = level.child(nodes, codes[..., number])
        return nodes

    def allows(self, nodes: Tensor, codes: Tensor, level: int) -> Tensor:
        """Whether codes of the level may follow nodes; both int64 and not -1, of shapes that broadcast: bool."""
        if level in self._dense:
            return self._dense[level].at(nodes, codes)
        return self.levels[level].child(nodes, codes) >= 0

    def mask(self, nodes: Tensor, level: int) -> Tensor:
        """Which codes may follow nodes int64 ``[B, n]``: bool ``[B, n, sizes[level]]``."""
        if level in self._dense:
            return self._dense[level].rows(nodes)
        codes, children = self.continuations(nodes, level)
        allowed = torch.zeros(*nodes.shape, self.sizes[level] + 1, dtype=torch.bool, device=nodes.device)
        # What is no child is written behind the last code.
        allowed.scatter_(-1, torch.where(children < 0, self.sizes[level], codes), True)
        return allowed[..., :-1]

    @cached_property
    def _dense(self) -> dict[int, BitTable]:
        """Bit tables of the levels that are small enough, rows by parent."""
        tables: dict[int, BitTable] = {}
        above = 1
        for number, level in enumerate(self.levels):
            if above * level.size <= _DENSE_BITS:
                keys = level.key_of(level.alive.nonzero()[:, 0])
                tables[number] = BitTable(keys // level.size, keys % level.size, (above, level.size))
            above = len(level)
        return tables

    def items_of(self, leaves: Tensor) -> LeafItems:
        """The items of leaves int64 ``[m]``, none for -1."""
        main = len(self.item_starts) - 1
        known = leaves.clamp(0, main - 1)
        counts = torch.where(leaves == known, self.item_starts[known + 1] - self.item_starts[known], 0).long()
        places = torch.repeat_interleave(torch.arange(len(leaves), device=leaves.device), counts)
        shift = self.item_starts[known] - (counts.cumsum(0) - counts)
        items = self.items[torch.arange(len(places), device=leaves.device) + shift[places]].long()
        if len(self.inserted_items):
            ends, order = self._inserted_ends
            first, last = (torch.searchsorted(ends, leaves, right=right) for right in (False, True))
            counts = last - first
            owners = torch.repeat_interleave(torch.arange(len(leaves), device=leaves.device), counts)
            shift = first - (counts.cumsum(0) - counts)
            rows = order[torch.arange(len(owners), device=leaves.device) + shift[owners]]
            places = torch.cat([places, owners])
            items = torch.cat([items, self.inserted_items[rows]])
        places, items = places[items >= 0], items[items >= 0]
        order = torch.argsort(places * len(self.places) + items)
        return LeafItems(places[order], items[order])

    @cached_property
    def _inserted_ends(self) -> tuple[Tensor, Tensor]:
        """The leaves of insertions, ascending, and whose they are; int64 ``[K]`` both."""
        ends, order = self.inserted_paths[:, -1].contiguous().sort()
        return ends, order

    def holds(self, items: Tensor) -> Tensor:
        """Which of these items (int64 ``[m]``) are in the trie: bool ``[m]``."""
        known = (items >= 0) & (items < len(self.places))
        return known & (self.places[items.clamp(0, len(self.places) - 1)] >= 0)

    def entries(self) -> tuple[Tensor, Tensor]:
        """All ids int64 ``[N, L]`` and their items int64 ``[N]``, as ``build`` takes them."""
        places, rows = (self.items >= 0).nonzero()[:, 0], (self.inserted_items >= 0).nonzero()[:, 0]
        codes = self._codes(torch.cat([self._paths(places), self.inserted_paths[rows]]))
        return codes, torch.cat([self.items[places].long(), self.inserted_items[rows]])

    def delete(self, items: Tensor) -> PrefixTrie:
        """The trie without these items (int64 ``[m]``); what it does not hold is ignored."""
        items = torch.unique(items.to(self.device))
        items = items[self.holds(items)]
        places = self.places[items].long()
        inserted = places >= len(self.items)
        rows, places = places[inserted] - len(self.items), places[~inserted]
        return replace(
            self,
            levels=self._counted(torch.cat([self._paths(places), self.inserted_paths[rows]]), -1),
            items=self.items.index_fill(0, places, -1),
            inserted_items=self.inserted_items.index_fill(0, rows, -1),
            places=self.places.index_fill(0, items, -1),
        )

    def insert(self, codes: Tensor, items: Tensor) -> PrefixTrie:
        """The trie with these items besides; one that it holds moves to its new id.

        Args:
            codes: integer ``[m, L]``.
            items: int64 ``[m]``, distinct.

        Raises:
            DataError: a code lies outside its level, or an item comes twice.
        """
        codes, items = _checked(codes.to(self.device), self.sizes, items.to(self.device))
        if not len(items):
            return self
        rest = self.delete(items)
        stay = rest.inserted_items >= 0
        if int(stay.sum()) + len(items) > max(_INSERTIONS_LEAST, len(self.items) // _INSERTIONS_SHARE):
            old_codes, old_items = rest.entries()
            return PrefixTrie.build(torch.cat([old_codes, codes]), self.sizes, torch.cat([old_items, items]))
        paths = rest.inserted_paths[stay]
        codes, items = torch.cat([rest._codes(paths), codes]), torch.cat([rest.inserted_items[stay], items])
        nodes, levels = [torch.zeros_like(items)], list[TrieLevel]()
        for number, level in enumerate(rest._counted(paths, -1)):
            level, reached = level.with_added(nodes[-1], codes[:, number])
            nodes.append(reached)
            levels.append(level.counted(reached, 1))
        places = pad(rest.places, (0, max(0, int(items.max()) + 1 - len(rest.places))), value=-1)
        numbers = torch.arange(len(self.items), len(self.items) + len(items), dtype=torch.int32, device=self.device)
        return replace(
            rest,
            levels=tuple(levels),
            inserted_items=items,
            inserted_paths=torch.stack(nodes[1:], dim=1),
            places=places.index_copy(0, items, numbers),
        )

    def _counted(self, paths: Tensor, change: int) -> tuple[TrieLevel, ...]:
        """The levels with ``change`` added to the counts of the nodes on these paths, int64 ``[m, L]``."""
        return tuple(level.counted(paths[:, number], change) for number, level in enumerate(self.levels))

    def _paths(self, places: Tensor) -> Tensor:
        """The nodes int64 ``[m, L]`` on the way to the items at these places of the main tree."""
        path = [torch.searchsorted(self.item_starts, places.int(), right=True) - 1]
        for level in self.levels[:0:-1]:
            path.append(level.key_of(path[-1]) // level.size)
        return torch.stack(path[::-1], dim=1)

    def _codes(self, paths: Tensor) -> Tensor:
        """The codes int64 ``[m, L]`` along paths of nodes."""
        columns = [level.key_of(paths[:, number]) % level.size for number, level in enumerate(self.levels)]
        return torch.stack(columns, dim=1)


def _checked(codes: Tensor, sizes: tuple[int, ...], items: Tensor | None) -> tuple[Tensor, Tensor]:
    """Codes and items as int64, if they can be ids.

    Raises:
        DataError: they cannot.
    """
    if codes.dim() != 2 or codes.shape[1] != len(sizes):
        raise DataError(f"Ids of {len(sizes)} codes are needed, but the codes have the shape {list(codes.shape)}.")
    codes = codes.long()
    wrong = ((codes < 0) | (codes >= torch.tensor(sizes, device=codes.device))).nonzero()
    if len(wrong):
        row, level = wrong[0].tolist()
        raise DataError(
            f"Row {row} (counted from 0) has code {int(codes[row, level])} in level {level + 1}, which has the codes "
            f"0 to {sizes[level] - 1}. Take the codes and the sizes from the same tokenizer."
        )
    items = torch.arange(len(codes), device=codes.device) if items is None else items.long()
    if items.shape != codes.shape[:1] or len(torch.unique(items)) < len(items) or bool((items < 0).any()):
        raise DataError(f"{len(codes)} ids need as many distinct items, numbered from 0.")
    return codes, items
