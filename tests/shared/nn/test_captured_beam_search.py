from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from no_looking import NoLooking
from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.code_generator import CodeGenerator
from recascade.models.decoder_only import DecoderOnly
from recascade.models.tiger import TIGER
from recascade.nn.beam_search import beam_search
from recascade.nn.captured_beam_search import CapturedBeamSearch
from recascade.nn.code_tree import CompleteTree
from recascade.nn.prefix_trie import PrefixTrie

SIZES, ITEMS, WIDTHS = (7, 6, 9), 60, (4, 9, 6)
SMALL = {"dimension": 16, "heads": 2, "hidden": 32, "max_length": 12, "dropout": 0.2}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")),
]
MODELS: dict[str, Callable[[Tensor], CodeGenerator]] = {
    "decoder-only": lambda codes: DecoderOnly(codes, SIZES, blocks=2, **SMALL),
    "tiger": lambda codes: TIGER(codes, SIZES, encoder_blocks=1, decoder_blocks=2, head_width=None, **SMALL),
}


def item_codes() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(size, (ITEMS,), generator=random) for size in SIZES], dim=1)


def make_context(requests: int, seed: int, device: str) -> Context:
    """Histories of equal lengths, so that batches have states of equal shapes on a CPU, too."""
    items = torch.randint(ITEMS, (requests * 5,), generator=torch.Generator().manual_seed(seed))
    offsets = torch.arange(requests + 1) * 5
    return Context(torch.arange(requests), items, torch.zeros_like(items), offsets).to(device)


def make_model(name: str, device: str) -> CodeGenerator:
    torch.manual_seed(0)
    model = MODELS[name](item_codes()).eval()
    for parameter in (model.output.table, model.embedding.table):
        torch.nn.init.normal_(parameter)
    return model.to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_finds_what_the_search_finds_batch_after_batch(name: str, device: str) -> None:
    model, trie = make_model(name, device), PrefixTrie.build(item_codes(), SIZES).to(device)
    with torch.no_grad():
        search = CapturedBeamSearch(model, model.encode(make_context(3, 0, device)), trie, WIDTHS)
        for seed in (1, 0, 2):
            context = make_context(3, seed, device)
            found = search(model.encode(context))
            for tensor, expected in zip(found, beam_search(model, model.encode(context), trie, WIDTHS), strict=True):
                torch.testing.assert_close(tensor, expected)


def test_a_state_that_was_searched_before_may_be_searched_again() -> None:
    model, trie = make_model("decoder-only", "cpu"), PrefixTrie.build(item_codes(), SIZES)
    with torch.no_grad():
        state = model.encode(make_context(3, 0, "cpu"))
        expected = beam_search(model, state, trie, WIDTHS)
        found = CapturedBeamSearch(model, state, trie, WIDTHS)(state)
    assert torch.equal(found.codes, expected.codes)


def test_another_batch_size_is_refused() -> None:
    model, trie = make_model("decoder-only", "cpu"), PrefixTrie.build(item_codes(), SIZES)
    with torch.no_grad():
        search = CapturedBeamSearch(model, model.encode(make_context(3, 0, "cpu")), trie, WIDTHS)
        with pytest.raises(ConfigurationError, match=r"made for 3 requests .* called with 2 requests"):
            search(model.encode(make_context(2, 0, "cpu")))


@pytest.mark.parametrize("inserted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_in_the_search_looks_at_data(name: str, inserted: bool) -> None:
    model, trie = make_model(name, "cpu"), PrefixTrie.build(item_codes(), SIZES)
    if inserted:
        trie = trie.insert(torch.tensor([[0, 0, 0], [6, 5, 8]]), torch.tensor([ITEMS, ITEMS + 1]))
    with torch.no_grad():
        state = model.encode(make_context(3, 0, "cpu"))
        for tree in (trie, CompleteTree(SIZES)):
            with NoLooking():
                beam_search(model, state, tree, WIDTHS)


def test_shapes_follow_from_the_tree_and_not_from_the_beams() -> None:
    trie = PrefixTrie.build(torch.tensor([[0, 0], [0, 1], [0, 2], [1, 4]]), (2, 5))
    for nodes in ([[0]], [[1]], [[0, 1]]):
        assert trie.continuations(torch.tensor(nodes), 1).codes.shape == (1, len(nodes[0]), 3)
