"""Constrained beam search beside its plain forms, masks beside FlashRec's, and a trie of a million items.

Run: python benchmarks/beam_search.py [--repeats 5] [--requests 64]

CPU milliseconds of one thread, the least of the repeats. All searches ask the same decoder-only model of default size
(4 blocks, d = 128), with the same caches and beams: 50 per level, ids of 3 x 256 codes, 12,101 items, histories of 7.
"compare with all items" answers whether a beam may go on with a code by comparing the longer prefix with those of all
items, for every beam and code, as a public code base does; "compare prefixes" compares each beam's prefix once and
marks the codes that follow. Both must find what the trie finds. FlashRec (pip install --no-deps flashrec) is left out
where it is not installed; of its package only the file of the trie is loaded, which needs nothing but torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams
from recascade.models.code_generator import GeneratorCaches
from recascade.models.decoder_only import DecoderOnly
from recascade.nn.beam_search import beam_search
from recascade.nn.prefix_trie import PrefixTrie

SIZES, ITEMS, HISTORY, WIDTHS = (256, 256, 256), 12_101, 7, (50, 50, 50)

Allowed = Callable[[Tensor, Tensor, int], Tensor]


def draw_codes(items: int, sizes: tuple[int, ...]) -> Tensor:
    """Ids whose second code depends on the first, as those of clusters do: about 40 of 256 follow a code."""
    random = torch.Generator().manual_seed(0)
    codes = [torch.randint(size, (items,), generator=random) for size in sizes]
    codes[1] = (codes[0] * 37 + codes[1] % 40) % sizes[1]
    return torch.stack(codes, dim=1)


def compare_with_all_items(codes: Tensor, prefixes: Tensor, size: int) -> Tensor:
    """bool ``[n, V]`` for prefixes ``[n, t]``: does any item begin with this prefix and this code?"""
    beams, level = prefixes.shape
    longer = torch.cat([prefixes.repeat_interleave(size, 0), torch.arange(size).repeat(beams)[:, None]], dim=1)
    # A few candidates at a time: all of them against all items would not fit the memory.
    parts = [longer[start : start + 1024] for start in range(0, len(longer), 1024)]
    matches = [(part[:, None] == codes[:, : level + 1]).all(2).any(1) for part in parts]
    return torch.cat(matches).view(beams, size)


def compare_prefixes(codes: Tensor, prefixes: Tensor, size: int) -> Tensor:
    """The same answer: which items share a beam's prefix, and which codes they have next."""
    beams, level = prefixes.shape
    same = (prefixes[:, None] == codes[:, :level]).all(2).nonzero()
    allowed = torch.zeros(beams, size, dtype=torch.bool)
    allowed[same[:, 0], codes[same[:, 1], level]] = True
    return allowed


@torch.no_grad()
def plain_search(model: DecoderOnly, state: GeneratorCaches, codes: Tensor, allowed: Allowed) -> Tensor:
    """Beam search with a mask over all codes and one cut over all beams' codes; the ids ``[B, W, L]``."""
    beams = Beams.start(state.batch_size, state.device)
    scores = torch.zeros(state.batch_size, 1)
    for size, width in zip(SIZES, WIDTHS, strict=True):
        log_probs = scores[..., None] + model.step(state, beams)
        mask = torch.stack([allowed(codes, prefixes, size) for prefixes in beams.codes])
        scores, places = log_probs.masked_fill(~mask, -torch.inf).flatten(1).topk(width)
        parents = places // size
        prefix = beams.codes.gather(1, parents[..., None].expand(-1, -1, beams.codes.shape[2]))
        beams = Beams(torch.cat([prefix, (places % size)[..., None]], dim=2), parents)
    return beams.codes


def least(work: Callable[[], object], repeats: int) -> float:
    """CPU milliseconds of the fastest of the repeats."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return 1e3 * min(seconds)


def compare_searches(requests: int, repeats: int) -> None:
    """Milliseconds per request, reading the history included."""
    torch.manual_seed(0)
    codes = draw_codes(ITEMS, SIZES)
    model = DecoderOnly(codes, SIZES).eval()
    # Fresh weights give nearly equal probabilities, whose order would hang on rounding.
    torch.nn.init.normal_(model.output.table)
    trie = PrefixTrie.build(codes, SIZES)

    def context(count: int) -> Context:
        items = torch.randint(ITEMS, (count * HISTORY,), generator=torch.Generator().manual_seed(1))
        return Context(torch.arange(count), items, torch.zeros_like(items), torch.arange(count + 1) * HISTORY)

    def with_trie(count: int) -> Tensor:
        return beam_search(model, model.encode(context(count)), trie, WIDTHS).codes

    def plain(count: int, allowed: Allowed) -> Tensor:
        return plain_search(model, model.encode(context(count)), codes, allowed)

    def model_alone(count: int) -> None:
        state, beams = model.encode(context(count)), Beams.start(count, codes.device)
        for level, width in enumerate(WIDTHS):
            model.step(state, beams)
            parents = torch.zeros(count, width, dtype=torch.int64)
            beams = Beams(torch.zeros(count, width, level + 1, dtype=torch.int64), parents)

    with torch.no_grad():
        few = min(2, requests)
        for allowed in (compare_prefixes, compare_with_all_items):
            assert torch.equal(with_trie(few).sort(1).values, plain(few, allowed).sort(1).values)
        print(f"Search, beams {WIDTHS}, per request of {requests} together:")
        rows: list[tuple[str, Callable[[], object], int, int]] = [
            ("model alone, no search", lambda: model_alone(requests), requests, repeats),
            ("trie", lambda: with_trie(requests), requests, repeats),
            ("compare prefixes", lambda: plain(requests, compare_prefixes), requests, repeats),
            ("compare with all items (2 requests)", lambda: plain(few, compare_with_all_items), few, 1),
        ]
        for name, work, count, times in rows:
            print(f"  {name:40s} {least(work, times) / count:10.2f} ms")


def flashrec_trie() -> ModuleType | None:
    """FlashRec's file of the trie, or None where the package is not installed."""
    package = importlib.util.find_spec("flashrec")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "search" / "trie.py"
    specification = importlib.util.spec_from_file_location("flashrec_trie", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["flashrec_trie"] = module
    specification.loader.exec_module(module)
    return module


def walk_trie(trie: PrefixTrie, prefixes: Tensor) -> Tensor:
    """The nodes int64 ``[n]`` of prefixes ``[n, t]``."""
    nodes = torch.zeros(len(prefixes), dtype=torch.int64)
    for depth, codes in enumerate(prefixes.unbind(1)):
        nodes = trie.levels[depth].child(nodes, codes)
    return nodes


def mask_with_trie(trie: PrefixTrie, tokens: Tensor, scores: Tensor, level: int, beams: Tensor) -> Tensor:
    """Scores, -inf where a token may not follow; ``beams`` are nodes ``[n]``, or prefixes ``[n, t]`` to look up."""
    nodes = beams if beams.dim() == 1 else walk_trie(trie, beams)
    return scores.masked_fill(~trie.allows(nodes[:, None], tokens, level), -torch.inf)


def compare_masks(repeats: int) -> None:
    """Scores of 100 candidate codes for each of 1,600 beams masked by what may follow; 3,686 items."""
    items, beams, candidates = 3_686, 1_600, 100
    codes = draw_codes(items, SIZES)
    trie = PrefixTrie.build(codes, SIZES)
    random = torch.Generator().manual_seed(2)
    chosen = codes[torch.randint(items, (beams,), generator=random)]
    scores = torch.randn(beams, candidates, generator=random)
    package, offsets = flashrec_trie(), torch.arange(len(SIZES)) * SIZES[0]
    other = None if package is None else package.build_trie_from_sequences((codes + offsets).tolist())
    print(f"Masks, {beams} beams x {candidates} candidates, {items} items:")
    if package is None:
        print("  FlashRec is not installed: pip install --no-deps flashrec")
    for level in (1, 2):
        tokens = torch.randint(SIZES[level], (beams, candidates), generator=random)
        prefixes = chosen[:, :level]
        cases: list[tuple[str, Callable[[], Tensor]]] = [
            ("recascade, nodes known", partial(mask_with_trie, trie, tokens, scores, level, walk_trie(trie, prefixes))),
            ("recascade, from the prefixes", partial(mask_with_trie, trie, tokens, scores, level, prefixes)),
        ]
        if other is not None:
            arguments = (prefixes + offsets[:level], tokens + offsets[level], scores, level)
            known = other._resolve_node_ids(arguments[0], beams, level, scores.device)
            cases.append(("FlashRec, nodes known", partial(other.mask_candidates, *arguments, known)))
            cases.append(("FlashRec, from the prefixes", partial(other.mask_candidates, *arguments)))
        first = cases[0][1]()
        for name, work in cases:
            assert torch.equal(work(), first)
            print(f"  level {level + 1}, {name:30s} {least(work, repeats):8.2f} ms")


def million_items(repeats: int) -> None:
    """Memory of a large trie, and what building and changing it costs."""
    count = 1_000_000
    for sizes in ((256, 256, 256, 8), (16384, 4096, 1024)):
        random = torch.Generator().manual_seed(3)
        codes = torch.stack([torch.randint(size, (count,), generator=random) for size in sizes], dim=1)
        build = partial(PrefixTrie.build, codes, sizes)
        trie, some = build(), torch.arange(100)
        tables = sum(table.bytes.nbytes for table in trie._dense.values())
        print(f"A trie of {count:,} items, codes {sizes}:")
        print(f"  memory, with bit tables {(trie.bytes + tables) / 1e6:10.1f} MB")
        print(f"  build                   {least(build, min(repeats, 2)):10.1f} ms")
        print(f"  delete 100 items        {least(partial(trie.delete, some), repeats):10.1f} ms")
        inserting = partial(trie.insert, codes[some], some + count)
        print(f"  insert 100 items        {least(inserting, repeats):10.1f} ms")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare_searches(arguments.requests, arguments.repeats)
    compare_masks(arguments.repeats)
    million_items(arguments.repeats)


if __name__ == "__main__":
    main()
