from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade.errors import DataError
from recascade.nn.code_tree import CompleteTree
from recascade.nn.prefix_trie import PrefixTrie

SIZES = (5, 11, 3)
CODES = torch.tensor([[1, 10, 2], [0, 3, 0], [1, 10, 2], [1, 2, 1], [4, 0, 0], [1, 10, 0]])


def random_codes(count: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (count,), generator=random) for size in sizes], dim=1)


def listed(trie: PrefixTrie) -> dict[tuple[int, ...], list[int]]:
    """Id → items, found by walking down, which every way of asking must agree with."""
    paths: list[tuple[tuple[int, ...], int]] = [((), 0)]
    for level in range(len(trie.sizes)):
        longer = []
        for codes, node in paths:
            found = trie.continuations(torch.tensor([[node]]), level)
            pairs = [(c, n) for c, n in zip(found.codes[0, 0].tolist(), found.nodes[0, 0].tolist(), strict=True)]
            children = [(code, child) for code, child in pairs if child >= 0]
            assert [code for code, _ in children] == sorted({code for code, _ in children})
            allowed = [code for code, _ in children]
            assert trie.mask(torch.tensor([[node]]), level)[0, 0].nonzero()[:, 0].tolist() == allowed
            everything = torch.arange(trie.sizes[level])
            assert trie.allows(torch.tensor([node]), everything, level).nonzero()[:, 0].tolist() == allowed
            longer += [((*codes, code), child) for code, child in children]
        paths = longer
    ids = {}
    for codes, leaf in paths:
        assert trie.find(torch.tensor(codes)).item() == leaf
        ids[codes] = trie.items_of(torch.tensor([leaf])).items.tolist()
    return ids


def by_hand(codes: Tensor, items: list[int]) -> dict[tuple[int, ...], list[int]]:
    ids: dict[tuple[int, ...], list[int]] = {}
    for row, item in sorted(zip(map(tuple, codes.tolist()), items, strict=True), key=lambda pair: pair[1]):
        ids.setdefault(row, []).append(item)
    return ids


def test_holds_exactly_the_ids_of_the_items() -> None:
    assert listed(PrefixTrie.build(CODES, SIZES)) == by_hand(CODES, list(range(6)))


@given(
    codes=st.lists(st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=30),
    changes=st.lists(
        st.tuples(st.booleans(), st.integers(0, 40), st.tuples(*(st.integers(0, size - 1) for size in SIZES))),
        max_size=12,
    ),
)
@settings(max_examples=40)
def test_after_any_changes_it_is_the_trie_of_what_is_left(codes, changes) -> None:
    trie = PrefixTrie.build(torch.tensor(codes), SIZES)
    expected = dict(enumerate(codes))
    for insertion, item, path in changes:
        if insertion:
            trie = trie.insert(torch.tensor([path]), torch.tensor([item]))
            expected[item] = path
        else:
            trie = trie.delete(torch.tensor([item]))
            expected.pop(item, None)
    items = sorted(expected)
    left = torch.tensor([expected[item] for item in items]).reshape(-1, len(SIZES))
    assert listed(trie) == by_hand(left, items)
    assert trie.holds(torch.arange(50)).nonzero()[:, 0].tolist() == items
    entries = dict(zip(trie.entries()[1].tolist(), map(tuple, trie.entries()[0].tolist()), strict=True))
    assert entries == expected


def test_many_insertions_build_the_trie_anew() -> None:
    codes = random_codes(4000, (16, 16, 64))
    trie = PrefixTrie.build(codes[:10], (16, 16, 64))
    for start in range(10, 4000, 500):
        items = torch.arange(start, min(start + 500, 4000))
        trie = trie.insert(codes[items], items)
    assert len(trie.inserted_items) < 1024
    assert torch.equal(trie.holds(torch.arange(4001)), torch.arange(4001) < 4000)
    leaves = trie.find(codes)
    found = trie.items_of(leaves)
    assert all(
        (found.places == item).any() and item in found.items[found.places == item] for item in range(0, 4000, 97)
    )


def test_a_change_leaves_the_trie_it_came_from_alone() -> None:
    trie = PrefixTrie.build(CODES, SIZES)
    before = listed(trie)
    changed = trie.delete(torch.tensor([0, 4])).insert(torch.tensor([[2, 2, 2]]), torch.tensor([9]))
    changed.delete(torch.tensor([9]))
    assert listed(trie) == before
    assert (2, 2, 2) in listed(changed) and (4, 0, 0) not in listed(changed)


def test_wide_levels_without_bit_tables_say_the_same() -> None:
    sizes = (9000, 9000, 4)
    codes = random_codes(300, sizes)
    trie = PrefixTrie.build(codes, sizes)
    nodes = torch.arange(len(trie.levels[0]))[None]
    mask = trie.mask(nodes, 1)
    assert mask.sum() == len(torch.unique(codes[:, :2], dim=0))
    assert torch.equal(trie.allows(nodes[..., None], torch.arange(9000), 1), mask)


def test_nodes_of_several_requests_at_once() -> None:
    trie = PrefixTrie.build(CODES, SIZES)
    first = {code: trie.levels[0].child(torch.tensor(0), torch.tensor(code)).item() for code in (0, 1, 4)}
    found = trie.continuations(torch.tensor([[first[1], first[4]], [first[0], first[1]]]), 1)
    rows = [
        [code for code, node in zip(*pair, strict=True) if node >= 0]
        for pair in zip(found.codes.flatten(0, 1).tolist(), found.nodes.flatten(0, 1).tolist(), strict=True)
    ]
    assert rows == [[2, 10], [0], [3], [2, 10]]


def test_items_of_many_leaves_keep_the_order_of_the_leaves() -> None:
    trie = PrefixTrie.build(CODES, SIZES).delete(torch.tensor([1]))
    leaves = torch.cat([trie.find(CODES[[4, 0, 5]]), torch.tensor([-1]), trie.find(CODES[[0, 1]])])
    found = trie.items_of(leaves)
    assert found.places.tolist() == [0, 1, 1, 2, 4, 4]
    assert found.items.tolist() == [4, 0, 2, 5, 0, 2]


def test_everything_can_be_deleted_and_come_back() -> None:
    trie = PrefixTrie.build(CODES, SIZES).delete(torch.arange(6))
    assert listed(trie) == {}
    assert listed(trie.insert(CODES[1:2], torch.tensor([1]))) == {(0, 3, 0): [1]}


def test_a_million_items_stay_under_200_megabytes() -> None:
    codes = random_codes(1_000_000, (256, 256, 256, 8))
    trie = PrefixTrie.build(codes, (256, 256, 256, 8))
    tables = sum(table.bytes.nbytes for table in trie._dense.values())
    assert trie.bytes + tables < 200e6


def test_complete_tree_has_every_combination() -> None:
    tree = CompleteTree((2, 3))
    nodes = tree.continuations(torch.zeros(1, 1, dtype=torch.int64), 0).nodes
    found = tree.continuations(nodes[0], 1)
    assert list(itertools.chain.from_iterable(found.codes[0].tolist())) == [0, 1, 2, 0, 1, 2]
    assert found.nodes.flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("codes", "items", "message"),
    [
        (torch.tensor([[0, 11, 0]]), None, "Row 0 .* has code 11 in level 2, which has the codes 0 to 10"),
        (torch.tensor([[0, 1, 0], [0, -1, 0]]), None, "Row 1"),
        (torch.tensor([[0, 1]]), None, "Ids of 3 codes are needed"),
        (CODES[:2], torch.tensor([3, 3]), "distinct items"),
        (CODES[:0], None, "No item has an id"),
    ],
)
def test_what_cannot_be_an_id_is_refused(codes: Tensor, items: Tensor | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PrefixTrie.build(codes, SIZES, items)


def test_a_refused_insertion_changes_nothing() -> None:
    trie = PrefixTrie.build(CODES, SIZES)
    with pytest.raises(DataError, match="level 3"):
        trie.insert(torch.tensor([[0, 0, 0], [0, 0, 3]]), torch.tensor([7, 8]))
    assert listed(trie) == by_hand(CODES, list(range(6)))
