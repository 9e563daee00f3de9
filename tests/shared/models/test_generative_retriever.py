from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.errors import ConfigurationError
from recascade.models.decoder_only import DecoderOnly
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.nn.beam_search import FoundIds

ITEMS, SIZES = 40, (4, 5, 3)


def item_codes() -> Tensor:
    """Some ids have several items."""
    random = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(size, (ITEMS,), generator=random) for size in SIZES], dim=1)


POPULARITY = torch.randint(100, (ITEMS,), generator=torch.Generator().manual_seed(1))


def make_context(lengths: list[int]) -> Context:
    random = torch.Generator().manual_seed(2)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    items = torch.randint(ITEMS, (int(offsets[-1]),), generator=random)
    return Context(torch.arange(len(lengths)), items, torch.zeros_like(items), offsets)


CONTEXT = make_context([5, 1, 12, 0, 8, 3])


@pytest.fixture(scope="module")
def generator() -> DecoderOnly:
    torch.manual_seed(0)
    model = DecoderOnly(item_codes(), SIZES, dimension=8, heads=2, hidden=16, blocks=2, max_length=10)
    for parameter in (model.output.table, model.embedding.table):
        torch.nn.init.normal_(parameter)
    return model


def make(generator: DecoderOnly, widths=(60, 60, 60), sharing: Sharing = "popularity", batch: int = 2):
    return GenerativeRetriever(generator, item_codes(), POPULARITY, widths, sharing=sharing, batch=batch)


def by_hand(generator: DecoderOnly, row: int, sharing: Sharing) -> list[tuple[int, float]]:
    """All items with their scores, best first."""
    generator.eval()
    context = CONTEXT.between(row, row + 1).last(10)
    with torch.no_grad():
        log_probs = generator.log_prob(generator.encode(context), item_codes()[None])[0].tolist()
    codes = [tuple(code) for code in item_codes().tolist()]
    scored = []
    for item in range(ITEMS):
        share = torch.tensor(float(codes.count(codes[item]))).log().item() if sharing == "split" else 0.0
        tie = -POPULARITY[item].item() if sharing == "popularity" else 0
        scored.append((round(share - log_probs[item], 5), codes[item], tie, item))
    return [(item, -score) for score, _, _, item in sorted(scored)]


@pytest.mark.parametrize("sharing", ["popularity", "split"])
def test_wide_beams_list_all_items_in_the_order_of_their_scores(generator, sharing: Sharing) -> None:
    retriever = make(generator, sharing=sharing)
    assert isinstance(retriever, Retriever)
    best = retriever.retrieve(CONTEXT, ITEMS)
    for row in (0, 1, 2, 4, 5):
        expected = by_hand(generator, row, sharing)
        assert best.items[row].tolist() == [item for item, _ in expected]
        torch.testing.assert_close(best.scores[row], torch.tensor([score for _, score in expected]), atol=2e-5, rtol=0)


def test_a_history_keeps_the_answer_it_has_alone(generator) -> None:
    together = make(generator, widths=(3, 4, 6), batch=4).retrieve(CONTEXT, 7)
    for row in range(6):
        alone = make(generator, widths=(3, 4, 6)).retrieve(CONTEXT.between(row, row + 1), 7)
        assert torch.equal(alone.items[0], together.items[row])


def test_no_item_twice_and_scores_never_rise(generator) -> None:
    for sharing in ("popularity", "split"):
        best = make(generator, widths=(2, 3, 5), sharing=sharing).retrieve(CONTEXT, 15)
        for items, scores in zip(best.items.tolist(), best.scores, strict=True):
            there = [item for item in items if item >= 0]
            assert len(set(there)) == len(there)
            assert (scores[: len(there) - 1] >= scores[1 : len(there)]).all()
            assert items[len(there) :] == [-1] * (15 - len(there))


def test_seen_items_make_room_for_the_next_ones(generator) -> None:
    retriever = make(generator)
    everything, fresh = retriever.retrieve(CONTEXT, ITEMS), retriever.retrieve(CONTEXT, 20, exclude_seen=True)
    for row in range(6):
        seen = set(CONTEXT.between(row, row + 1).items.tolist())
        expected = [item for item in everything.items[row].tolist() if item not in seen]
        assert fresh.items[row].tolist() == expected[:20]


def test_only_candidates_are_ranked(generator) -> None:
    candidates = torch.tensor([30, 2, 3, 17, 39, 4, 2])
    retriever = make(generator)
    best = retriever.retrieve(CONTEXT, 10, candidates=candidates)
    everything = retriever.retrieve(CONTEXT, ITEMS)
    for row in range(6):
        expected = [item for item in everything.items[row].tolist() if item in candidates]
        assert best.items[row].tolist() == expected + [-1] * (10 - len(expected))
    none = retriever.retrieve(CONTEXT, 3, candidates=candidates[:0])
    assert (none.items == -1).all() and (none.scores == -torch.inf).all()


def test_a_request_without_history_gets_popular_items(generator) -> None:
    best = make(generator).retrieve(CONTEXT, 5)
    assert best.items[3].tolist() == POPULARITY.argsort(descending=True, stable=True)[:5].tolist()


def test_a_deleted_item_is_gone_at_the_next_request_and_a_new_one_there(generator) -> None:
    retriever = make(generator)
    first = retriever.retrieve(CONTEXT, 1).items[0]
    code = item_codes()[first]
    retriever.trie = retriever.trie.delete(first)
    assert first.item() not in retriever.retrieve(CONTEXT, ITEMS).items[0]
    retriever.trie = retriever.trie.insert(code, first)
    assert first.item() == retriever.retrieve(CONTEXT, 1).items[0].item()


def test_deleted_items_are_no_fallback_and_new_items_are_listed_last_of_their_id(generator) -> None:
    retriever = make(generator)
    popular = POPULARITY.argsort(descending=True, stable=True)
    context = CONTEXT.between(2, 4)
    retriever.trie = retriever.trie.delete(popular[:1]).insert(item_codes()[popular[1:2]], torch.tensor([ITEMS + 5]))
    best = retriever.retrieve(context, ITEMS + 5, exclude_seen=True)
    assert best.items[1, :5].tolist() == popular[1:6].tolist()
    listed = best.items[0].tolist()
    siblings = [
        item for item in listed if item < ITEMS and bool((item_codes()[item] == item_codes()[popular[1]]).all())
    ]
    assert all(listed.index(item) < listed.index(ITEMS + 5) for item in siblings)


def test_training_mode_is_left_as_it_was_and_answers_know_no_dropout(generator) -> None:
    retriever = make(generator)
    generator.train()
    first, second = (retriever.retrieve(CONTEXT, 5).scores for _ in range(2))
    assert generator.training
    assert torch.equal(first, second)


def test_ids_themselves_can_be_asked_for(generator) -> None:
    retriever = make(generator)
    context = CONTEXT.between(0, 3)
    found = retriever.search(context, 4)
    best = retriever.retrieve(context, 1)
    assert torch.equal(item_codes()[best.items[:, 0]], found.codes[:, 0])


def test_what_a_search_found_can_be_put_into_another_order(generator) -> None:
    retriever = make(generator)
    usual = retriever.search(CONTEXT.between(0, 3), 60)
    there = usual.leaves >= 0
    retriever.rescore = lambda state, found: FoundIds(*(part.flip(1) for part in found))
    turned = retriever.search(CONTEXT.between(0, 3), 60)
    assert torch.equal(turned.codes.flip(1)[there], usual.codes[there])


def test_one_width_per_level(generator) -> None:
    with pytest.raises(ConfigurationError, match="one per code"):
        make(generator, widths=(5, 5))
