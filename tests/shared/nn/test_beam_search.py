from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recascade.contracts.generator import Beams, Generator
from recascade.errors import ConfigurationError
from recascade.nn.beam_search import beam_search, exhaustive_log_probs
from recascade.nn.code_tree import CompleteTree
from recascade.nn.prefix_trie import PrefixTrie

SIZES = (7, 6, 9)


def catalogue(count: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (count,), generator=random) for size in sizes], dim=1)


def search_without_cuts(generator, state, trie: PrefixTrie, widths) -> list[list[tuple[list[int], float]]]:
    """The plain algorithm, request by request: all continuations of all beams in one sort by score, then flat index."""
    results = []
    for request in range(state.batch_size):
        beams: list[tuple[list[int], float]] = [([], 0.0)]
        for level, width in enumerate(widths):
            extended = []
            for beam, (codes, score) in enumerate(beams):
                prefix = torch.tensor(codes, dtype=torch.int64).view(1, 1, level).expand(state.batch_size, -1, -1)
                log_probs = generator.step(state, Beams(prefix, prefix.new_zeros(prefix.shape[:2])))[request, 0]
                for code in range(trie.sizes[level]):
                    child = trie_has(trie, [*codes, code])
                    if child:
                        total = score + log_probs[code].item()
                        extended.append((-total, beam * trie.sizes[level] + code, [*codes, code]))
            beams = [(codes, -cost) for cost, _, codes in sorted(extended)[:width]]
        results.append(beams)
    return results


def trie_has(trie: PrefixTrie, prefix: list[int]) -> bool:
    node = torch.tensor(0)
    for level, code in enumerate(prefix):
        node = trie.levels[level].child(node, torch.tensor(code))
    return int(node) >= 0


@pytest.mark.parametrize("widths", [(1, 1, 1), (3, 5, 8), (8, 5, 3), (2, 40, 4)])
def test_cutting_per_beam_first_gives_what_one_sort_over_all_gives(random_generator, requests_of, widths) -> None:
    trie = PrefixTrie.build(catalogue(80), SIZES)
    generator = random_generator(SIZES)
    assert isinstance(generator, Generator)
    state = generator.encode(requests_of(4))
    found = beam_search(generator, state, trie, widths)
    for row, expected in enumerate(search_without_cuts(generator, state, trie, widths)):
        assert found.codes[row, : len(expected)].tolist() == [codes for codes, _ in expected]
        scores = torch.tensor([score for _, score in expected], dtype=torch.float64)
        torch.testing.assert_close(found.log_probs[row, : len(expected)], scores, rtol=1e-12, atol=1e-12)
        assert (found.codes[row, len(expected) :] == -1).all()


def test_ties_go_to_the_better_beam_and_then_to_the_lower_code(random_generator, requests_of) -> None:
    trie = PrefixTrie.build(catalogue(80), SIZES)
    for dtype in (torch.float32, torch.float64):
        generator = random_generator(SIZES, dtype)
        generator.heads = [torch.zeros_like(head) for head in generator.heads]
        found = beam_search(generator, generator.encode(requests_of(2)), trie, (4, 4, 10))
        expected = torch.unique(catalogue(80), dim=0)
        firsts = torch.unique(expected[:, :2], dim=0)[:4]
        under = torch.cat([expected[(expected[:, :2] == prefix).all(1)] for prefix in firsts])[:10]
        assert torch.equal(found.codes[0, : len(under)], under)


def test_wide_beams_rank_the_whole_catalogue(random_generator, requests_of) -> None:
    codes = catalogue(200)
    ids = torch.unique(codes, dim=0)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(5))
    found = beam_search(generator, state, PrefixTrie.build(codes, SIZES), (len(ids),) * 3)
    scores, order = exhaustive_log_probs(generator, state, ids, chunk=7).sort(dim=1, descending=True)
    torch.testing.assert_close(found.log_probs, scores)
    assert torch.equal(found.codes, ids[order])


def test_a_wider_last_step_leaves_the_earlier_ranks_alone(random_generator, requests_of) -> None:
    trie = PrefixTrie.build(catalogue(200), SIZES)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(5))
    narrow, wide = (beam_search(generator, state, trie, (3, 4, last)) for last in (5, 20))
    assert torch.equal(narrow.codes, wide.codes[:, :5])
    assert torch.equal(narrow.log_probs, wide.log_probs[:, :5])


def test_hundred_thousand_decodes_give_no_id_that_no_item_has(random_generator, requests_of) -> None:
    sizes = (16, 16, 16, 4)
    codes = catalogue(3000, sizes)
    trie = PrefixTrie.build(codes, sizes)
    valid = {tuple(row) for row in codes.tolist()}
    emitted = 0
    for seed in range(10):
        generator = random_generator(sizes, torch.float32, seed)
        found = beam_search(generator, generator.encode(requests_of(1000)), trie, (4, 8, 10, 10))
        ids = found.codes[found.leaves >= 0]
        assert {tuple(row) for row in ids.tolist()} <= valid
        assert torch.equal(trie.find(ids), found.leaves[found.leaves >= 0])
        emitted += len(ids)
    assert emitted >= 100_000


def test_without_the_trie_a_search_writes_ids_that_no_item_has(random_generator, requests_of) -> None:
    codes = catalogue(50)
    generator = random_generator(SIZES)
    found = beam_search(generator, generator.encode(requests_of(5)), CompleteTree(SIZES), (10, 10, 10))
    assert (PrefixTrie.build(codes, SIZES).find(found.codes) < 0).any()


def test_fewer_ids_than_places_leave_places_empty(random_generator, requests_of) -> None:
    codes = torch.tensor([[0, 0, 0], [0, 0, 8], [6, 5, 1]])
    generator = random_generator(SIZES)
    found = beam_search(generator, generator.encode(requests_of(3)), PrefixTrie.build(codes, SIZES), (2, 9, 12))
    assert found.codes.shape == (3, 12, 3)
    assert {tuple(row) for row in found.codes[1, :3].tolist()} == {tuple(row) for row in codes.tolist()}
    assert (found.codes[:, 3:] == -1).all() and (found.leaves[:, 3:] == -1).all()
    assert (found.log_probs[:, 3:] == -torch.inf).all() and found.log_probs[:, :3].isfinite().all()


def test_a_dead_end_costs_results_and_never_an_invalid_id(random_generator, requests_of) -> None:
    trie = PrefixTrie.build(catalogue(60), SIZES)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(4))
    empty = trie.delete(torch.arange(60))
    found = beam_search(generator, state, empty, (5, 5, 5))
    assert (found.codes == -1).all() and (found.log_probs == -torch.inf).all()


def test_deleted_and_inserted_items_count_at_the_next_search(random_generator, requests_of) -> None:
    codes = catalogue(60)
    trie = PrefixTrie.build(codes, SIZES)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(1))
    best = beam_search(generator, state, trie, (50, 50, 1)).codes[0, 0]
    owners = (codes == best).all(1).nonzero()[:, 0]
    without = trie.delete(owners)
    assert (beam_search(generator, state, without, (50, 50, 60)).codes != best).any(2).all()
    again = without.insert(best[None], torch.tensor([99]))
    found = beam_search(generator, state, again, (50, 50, 1))
    assert torch.equal(found.codes[0, 0], best)
    assert again.items_of(found.leaves[0]).items.tolist() == [99]


def test_widths_must_fit_the_levels(random_generator, requests_of) -> None:
    trie = PrefixTrie.build(catalogue(60), SIZES)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(1))
    for widths in ((5, 5), (5, 0, 5)):
        with pytest.raises(ConfigurationError, match="beam widths"):
            beam_search(generator, state, trie, widths)


def test_a_generator_that_goes_on_is_told_where_each_prefix_stood(random_generator, requests_of) -> None:
    trie = PrefixTrie.build(catalogue(80), SIZES)
    generator = random_generator(SIZES)
    state = generator.encode(requests_of(4))
    asked: list[Beams] = []
    step = generator.step
    generator.step = lambda state, beams: asked.append(beams) or step(state, beams)
    found = beam_search(generator, state, trie, (3, 4, 90))
    prefixes = asked[-1].codes.gather(1, found.parents[..., None].expand(-1, -1, 2))
    there = found.leaves >= 0
    assert torch.equal(prefixes[there], found.codes[..., :2][there]) and not bool(there.all())
