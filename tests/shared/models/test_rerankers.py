from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_lists import in_order, small_lists, with_garbage

from recascade.contracts.reranker import ListScorer, Reranker
from recascade.data.reranking_batch import RerankingBatch
from recascade.models.dlcm import DLCM
from recascade.models.dpp import DPP
from recascade.models.initial_order import InitialOrder
from recascade.models.list_model import GeneratingReranker, ScoringReranker
from recascade.models.mir import MIR
from recascade.models.mmr import MMR, relevance_of, similarity_of
from recascade.models.nar4rec import NAR4Rec
from recascade.models.prm import PRM
from recascade.models.seq2slate import Seq2Slate
from recascade.models.set_rank import SetRank

LISTS = small_lists()
SCHEMA = LISTS.schema
SCORERS = {
    "dlcm": lambda: DLCM(SCHEMA, dimension=16),
    "prm": lambda: PRM(SCHEMA, dimension=16),
    "prm attended": lambda: PRM(SCHEMA, dimension=16, user="attended"),
    "prm without user": lambda: PRM(SCHEMA, dimension=16, user="none", item_identity=False),
    "set-rank": lambda: SetRank(SCHEMA, dimension=16, inducing=3),
    "set-rank direct": lambda: SetRank(SCHEMA, dimension=16, inducing=0),
    "mir": lambda: MIR(SCHEMA, dimension=16),
}
GENERATORS = {"seq2slate": lambda: Seq2Slate(SCHEMA, dimension=16), "nar4rec": lambda: NAR4Rec(SCHEMA, dimension=16)}
RULES = {"initial": InitialOrder, "mmr": lambda: MMR(0.5), "dpp": lambda: DPP(1.0)}


def reranker(name: str) -> Reranker:
    torch.manual_seed(1)
    if name in SCORERS:
        return ScoringReranker(SCORERS[name]())
    return GeneratingReranker(GENERATORS[name]()) if name in GENERATORS else RULES[name]()


EVERY = pytest.mark.parametrize("name", [*SCORERS, *GENERATORS, *RULES])
TRAINED = pytest.mark.parametrize("name", [*SCORERS, *GENERATORS])


def batch(count: int = 16) -> RerankingBatch:
    return LISTS.batch(np.arange(count)).without_labels()


@EVERY
@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_each_candidate_is_placed_once_and_the_surplus_is_marked(name: str, count: int) -> None:
    lists = batch()
    order = reranker(name).rerank(lists, count)
    assert order.shape == (16, count) and order.dtype == torch.int64
    for row, length in zip(order.tolist(), lists.lengths.tolist(), strict=True):
        filled = min(count, length)
        assert row[filled:] == [-1] * (count - filled)
        assert len(set(row[:filled])) == filled and set(row[:filled]) <= set(range(length))


@EVERY
def test_what_stands_in_padding_changes_nothing(name: str) -> None:
    model, lists = reranker(name), batch()
    assert torch.equal(model.rerank(lists, 8), model.rerank(with_garbage(lists), 8))


@pytest.mark.parametrize("name", list(SCORERS))
def test_scores_do_not_depend_on_padding_or_on_the_other_lists(name: str) -> None:
    model, lists = reranker(name), batch()
    assert isinstance(model, ListScorer)
    scores = model.scores(lists)
    torch.testing.assert_close(scores, model.scores(with_garbage(lists)), rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.isneginf(), ~lists.candidate_mask)
    for row in (1, 5):
        alone = LISTS.batch(np.array([row]))
        width = alone.labels.shape[1]
        torch.testing.assert_close(scores[row, :width], model.scores(alone)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_the_distribution_over_slots_does_not_depend_on_padding(name: str) -> None:
    model, lists = reranker(name).model.eval(), batch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # At first a state says little of what it has read.
    places = InitialOrder().rerank(lists, 8)
    shares = [model.slot_log_shares(of, places).exp()[places >= 0] for of in (lists, with_garbage(lists))]
    torch.testing.assert_close(*shares, rtol=1e-4, atol=1e-5)


@EVERY
def test_padding_never_outranks_a_candidate_however_bad(name: str) -> None:
    # LibRerank's padding has score 0, DLCM's there the list's minimum: both can stand above real candidates.
    model, lists = reranker(name), batch()
    if name in SCORERS:
        with torch.no_grad():
            parameters = dict(model.model.named_parameters())
            last = [key for key in parameters if key.endswith("bias") and parameters[key].shape == (1,)][-1]
            parameters[last].fill_(-1e6)
    order = model.rerank(lists, 8)
    assert torch.equal(order >= 0, torch.arange(8) < lists.lengths[:, None])


@pytest.mark.parametrize("name", ["set-rank", "set-rank direct", "mir"])
@given(seed=st.integers(0, 1000))
def test_models_of_sets_follow_their_candidates_whatever_the_order(name: str, seed: int) -> None:
    torch.manual_seed(1)
    model = ScoringReranker(SCORERS[name]())
    lists = LISTS.batch(np.flatnonzero(LISTS.lengths == 8)[:3]).without_labels()
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(seed + row)) for row in range(3)])
    moved = model.scores(in_order(lists, order))
    torch.testing.assert_close(moved, model.scores(lists).gather(1, order), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dlcm", "prm", "seq2slate"])
def test_models_of_lists_read_the_initial_order(name: str) -> None:
    model, lists = reranker(name), LISTS.batch(np.flatnonzero(LISTS.lengths == 8)).without_labels()
    turned = torch.arange(7, -1, -1).expand(lists.batch_size, -1)
    if name == "seq2slate":
        before = model.model.slot_log_shares(lists, turned)
        after = model.model.slot_log_shares(in_order(lists, turned), turned.flip(1)).flip(2)
        assert (before.exp() - after.exp()).abs().max() > 1e-4
    else:
        assert (model.scores(lists) - model.scores(in_order(lists, turned)).flip(1)).abs().max() > 1e-4


@TRAINED
def test_everything_is_finite_for_unknown_users_items_and_empty_histories(name: str) -> None:
    model, lists = reranker(name), batch(4)
    nobody = replace(
        lists,
        candidate_items=torch.full_like(lists.candidate_items, -1),
        candidate_fields=torch.zeros_like(lists.candidate_fields),
        history_items=torch.full_like(lists.history_items, -1),
        history_mask=torch.zeros_like(lists.history_mask),
        profile=torch.zeros_like(lists.profile),
    )
    order = model.rerank(nobody, 8)
    assert torch.equal(order >= 0, torch.arange(8) < lists.lengths[:, None])
    if isinstance(model, ListScorer):
        assert model.scores(nobody)[nobody.candidate_mask].isfinite().all()


@TRAINED
def test_the_user_matters_unless_it_is_not_read(name: str) -> None:
    model, lists = reranker(name).model.eval(), LISTS.batch(np.flatnonzero(LISTS.lengths == 8))
    other = replace(lists, profile=(lists.profile + 1) % 3, history_ages=lists.history_ages + 5)
    places = torch.arange(8).expand(lists.batch_size, -1)

    def outputs(of: RerankingBatch) -> torch.Tensor:
        return model.slot_log_shares(of, places).exp() if name in GENERATORS else model.list_scores(of)

    difference = (outputs(lists) - outputs(other)).abs().max()
    assert difference == 0 if name == "prm without user" else difference > 1e-6


def test_seq2slate_in_one_pass_is_seq2slate_step_by_step() -> None:
    torch.manual_seed(0)
    model, lists = Seq2Slate(SCHEMA, dimension=16).eval(), batch()
    order = model.generate(lists, 8)
    shares = model.slot_log_shares(lists, order)
    filled = order >= 0
    assert torch.equal(shares.argmax(2)[filled], order[filled])
    totals = shares.exp().sum(2)
    torch.testing.assert_close(totals, torch.ones_like(totals))


def test_seq2slate_never_sees_what_comes_later_and_reads_what_stands_before() -> None:
    torch.manual_seed(0)
    model = Seq2Slate(SCHEMA, dimension=16).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # At first a state says little of what it has read.
    lists = LISTS.batch(np.flatnonzero(LISTS.lengths == 8))
    prefix = torch.arange(8).expand(lists.batch_size, -1).clone()
    changed = prefix.clone()
    changed[:, 4:] = prefix[:, 4:].flip(1)
    before, after = model.slot_log_shares(lists, prefix), model.slot_log_shares(lists, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    changed = prefix.clone()
    changed[:, :2] = prefix[:, :2].flip(1)
    assert (model.slot_log_shares(lists, changed)[:, 2].exp() - before[:, 2].exp()).abs().max() > 1e-5


def test_generators_answer_alike_each_time() -> None:
    for name in GENERATORS:
        model = reranker(name)
        assert torch.equal(model.rerank(batch(), 8), model.rerank(batch(), 8))


def test_mmr_by_hand() -> None:
    lists = LISTS.batch(np.flatnonzero(LISTS.lengths == 8)[:4])
    order = MMR(0.6).rerank(lists, 8)
    relevance, similarity = relevance_of(lists), similarity_of(lists)
    for row in range(4):
        left, chosen = set(range(8)), []
        while left:
            gains = {
                place: 0.6 * relevance[row, place].item()
                - 0.4 * max((similarity[row, place, other].item() for other in chosen), default=0.0)
                for place in left
            }
            chosen.append(max(gains, key=lambda place: (gains[place], -place)))
            left.remove(chosen[-1])
        assert order[row].tolist() == chosen


def test_dpp_takes_what_enlarges_the_determinant_most() -> None:
    lists = LISTS.batch(np.flatnonzero(LISTS.lengths == 8)[:4])
    order = DPP(1.5).rerank(lists, 5)
    quality = torch.exp(1.5 * relevance_of(lists).double() / 2)
    kernel = quality[:, :, None] * similarity_of(lists).double() * quality[:, None]
    for row in range(4):
        chosen: list[int] = []
        for _ in range(5):
            volumes = {
                place: torch.det(kernel[row][np.ix_([*chosen, place], [*chosen, place])]).item()
                for place in set(range(8)) - set(chosen)
            }
            chosen.append(max(volumes, key=volumes.__getitem__))
        assert order[row].tolist() == chosen


def test_rules_that_ask_for_relevance_alone_keep_the_order_of_scores() -> None:
    lists = batch()
    by_score = torch.where(lists.candidate_mask, lists.initial_scores, -torch.inf)
    expected = by_score.argsort(dim=1, descending=True, stable=True)
    filled = torch.arange(8) < lists.lengths[:, None]
    assert torch.equal(MMR(1.0).rerank(lists, 8)[filled], expected[filled])
    assert torch.equal(DPP(1000.0).rerank(lists, 8)[filled], expected[filled])
    unscored = replace(lists, initial_scores=torch.zeros_like(lists.initial_scores))
    assert torch.equal(MMR(1.0).rerank(unscored, 8), InitialOrder().rerank(lists, 8))


def test_candidates_that_are_all_alike_still_make_a_list() -> None:
    lists = LISTS.batch(np.flatnonzero(LISTS.lengths == 8)[:2])
    alike = replace(
        lists,
        candidate_fields=torch.ones_like(lists.candidate_fields),
        candidate_features=torch.ones_like(lists.candidate_features),
    )
    expected = lists.initial_scores.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(DPP(2.0).rerank(alike, 8), expected)
    assert torch.equal(MMR(0.5).rerank(alike, 8), expected)
