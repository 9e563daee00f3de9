"""The generator: each candidate once, no look into the future, one pass equals many."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from psad_models import psad_model, random_lists
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade_psad.blocks import relaxed_causal_mask
from recascade_psad.model import PSADModel
from recascade_psad.reranker import StudentReranker, TeacherReranker
from recascade_psad.teacher import Generated

LENGTHS = [10, 7, 1, 4, 10]
BLOCKS = (1, 2, 3, 5, 0)


def generated(model: PSADModel, batch: RerankingBatch, slots: int = 10, *, cached: bool = True) -> Generated:
    with torch.no_grad():
        return model.eval().generate(model.encode(batch, slots), cached=cached)


def taught(model: PSADModel, batch: RerankingBatch, prefix: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().teach(model.encode(batch, prefix.shape[1]), prefix)


@pytest.mark.parametrize("rule", ("greedy", "confidence", "hungarian"))
@pytest.mark.parametrize("block", (*BLOCKS, 4, 20))
def test_each_candidate_is_placed_once_and_padding_last(block: int, rule: str) -> None:
    batch = random_lists(LENGTHS)
    order = generated(psad_model(teacher__block=block, teacher__commit=rule), batch).order
    assert (order.sort(1).values == torch.arange(10)).all()
    for row, length in enumerate(LENGTHS):
        assert set(order[row, :length].tolist()) == set(range(length))


def test_a_block_of_one_is_an_autoregressive_decoder() -> None:
    model, batch = psad_model(teacher__block=1).eval(), random_lists([8, 8, 8])
    assert torch.equal(relaxed_causal_mask(8, 1, torch.device("cpu")), torch.ones(8, 8).tril().bool())
    with torch.no_grad():
        encoded, teacher = model.encode(batch, 8), model.teacher
        assert teacher is not None
        order = torch.zeros(3, 0, dtype=torch.int64)
        for slot in range(8):
            # Slot j reads the candidate before it; all slots are computed anew, under a triangular mask.
            read = torch.cat(
                [teacher.beginning.expand(3, 1, -1), encoded.candidates[torch.arange(3)[:, None], order]], 1
            )
            stream = read + encoded.slots[:, : slot + 1]
            for block in teacher.decoder:
                visible = torch.ones(slot + 1, slot + 1).tril().bool()[None]
                stream, _ = block(stream, visible, block.pool(encoded.candidates, encoded.mask))
            query = teacher.pointer(teacher.slot_norm(stream[:, -1]))
            logits = (query[:, None] * encoded.candidates).sum(2)
            logits = logits.scatter(1, order, -torch.inf)
            order = torch.cat([order, logits.argmax(1, keepdim=True)], 1)
    assert torch.equal(generated(model, batch, 8).order, order)


def test_one_block_for_all_is_one_pass_and_a_greedy_commitment() -> None:
    model, batch = psad_model(teacher__block=0), random_lists([8, 8])
    logits = taught(model, batch, torch.arange(8).repeat(2, 1))
    expected = []
    for rows in logits:
        chosen: list[int] = []
        for row in rows:
            chosen.append(int(row.index_fill(0, torch.tensor(chosen, dtype=torch.int64), -torch.inf).argmax()))
        expected.append(chosen)
    result = generated(model, batch, 8)
    assert result.order.tolist() == expected
    assert torch.allclose(result.logits, logits, atol=1e-6)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_slot_knows_earlier_blocks_and_nothing_later(block: int) -> None:
    model, batch = psad_model(teacher__block=block), random_lists([10, 10, 10])
    size = block or 10
    prefix = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])
    logits = taught(model, batch, prefix)
    for start in range(0, 10, size):
        changed = prefix.clone()
        changed[:, start:] = changed[:, start:].flip(1)
        again = taught(model, batch, changed)
        assert torch.equal(again[:, : start + size], logits[:, : start + size])
        if start and start + size < 10:
            earlier = prefix.clone()
            earlier[:, :start] = earlier[:, :start].flip(1)
            behind = slice(start, start + size)
            allowed = torch.isfinite(logits[:, behind])
            difference = (taught(model, batch, earlier)[:, behind] - logits[:, behind])[allowed].abs().max()
            assert (difference > 1e-3) == (size > 1 or start > 1)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cached", (True, False))
def test_its_own_list_taught_in_one_pass_gives_the_same_logits(block: int, cached: bool) -> None:
    model, batch = psad_model(teacher__block=block, teacher__decoder_blocks=2), random_lists(LENGTHS)
    result = generated(model, batch, cached=cached)
    parallel = taught(model, batch, result.order)
    assert torch.equal(parallel == -torch.inf, result.logits == -torch.inf)
    for row, length in enumerate(LENGTHS):
        assert torch.allclose(parallel[row, :length], result.logits[row, :length], atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_stands_in_padding_and_how_much_there_is_changes_nothing(block: int) -> None:
    model = psad_model(teacher__block=block).eval()
    narrow, wide = random_lists([7, 4]), random_lists([7, 4], width=12)
    wide = RerankingBatch(
        **{
            name: torch.cat([getattr(narrow, name), getattr(wide, name)[:, getattr(narrow, name).shape[1] :]], 1)
            if name.startswith(("candidate", "initial", "labels"))
            else getattr(narrow, name)
            for name in narrow.__dataclass_fields__
        }
    )
    padding = ~wide.candidate_mask
    garbage = replace(
        wide,
        candidate_items=wide.candidate_items.masked_fill(padding, 3),
        candidate_fields=wide.candidate_fields.masked_fill(padding[..., None], 1),
        candidate_features=wide.candidate_features.masked_fill(padding[..., None], torch.nan),
        initial_scores=wide.initial_scores.masked_fill(padding, torch.inf),
    )
    for reranker in (StudentReranker(model), TeacherReranker(model)):
        clean = reranker.rerank(wide, 12)
        assert torch.equal(reranker.rerank(garbage, 12), clean)
        assert torch.equal(reranker.rerank(narrow, 12), clean)
        assert (clean[0, 7:] == -1).all() and (clean[1, 4:] == -1).all()
    assert torch.equal(StudentReranker(model).scores(garbage), StudentReranker(model).scores(wide))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("context", ("none", "pool", "attention", "transformer"))
def test_without_initial_ranks_the_order_of_candidates_means_nothing(block: int, context: str) -> None:
    model = psad_model(teacher__block=block, student__context=context, profile__initial_rank=False)
    batch = random_lists([9, 9])
    places = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    moved = replace(
        batch,
        candidate_items=batch.candidate_items[:, places],
        candidate_fields=batch.candidate_fields[:, places],
        candidate_features=batch.candidate_features[:, places],
        initial_scores=batch.initial_scores[:, places],
    )
    assert torch.equal(places[generated(model, moved, 9).order], generated(model, batch, 9).order)
    scores, again = StudentReranker(model).scores(batch), StudentReranker(model).scores(moved)
    assert torch.allclose(scores[:, places], again, atol=1e-6)


def test_initial_ranks_are_read() -> None:
    batch = random_lists([9, 9])
    flipped = replace(batch, **{name: getattr(batch, name).flip(1) for name in ("candidate_items", "initial_scores")})
    flipped = replace(
        flipped,
        candidate_fields=batch.candidate_fields.flip(1),
        candidate_features=batch.candidate_features.flip(1),
    )
    student = StudentReranker(psad_model())
    assert (student.scores(flipped).flip(1) - student.scores(batch)).abs().max() > 1e-3


@pytest.mark.parametrize("slots", (1, 5, 7, 10))
@pytest.mark.parametrize("block", BLOCKS)
def test_the_decoder_runs_once_per_block(block: int, slots: int) -> None:
    model, batch = psad_model(teacher__block=block), random_lists([10, 10])
    assert model.teacher is not None
    passes = []
    model.teacher.decoder[0].register_forward_hook(lambda *_: passes.append(1))
    assert generated(model, batch, slots).order.shape == (2, slots)
    assert len(passes) == -(-slots // (block or slots))


@pytest.mark.parametrize("block", (*BLOCKS, 4, 20))
def test_the_first_places_are_the_head_of_the_whole_list(block: int) -> None:
    reranker, batch = TeacherReranker(psad_model(teacher__block=block)), random_lists(LENGTHS * 4)
    whole = reranker.rerank(batch, 10)
    for count in range(1, 11):
        assert torch.equal(reranker.rerank(batch, count), whole[:, :count])


@pytest.mark.parametrize("served", ("student", "teacher"))
def test_more_places_than_candidates_stay_empty(served: str) -> None:
    model, batch = psad_model(), random_lists([3, 1])
    reranker = StudentReranker(model) if served == "student" else TeacherReranker(model)
    order = reranker.rerank(batch, 5)
    assert order.shape == (2, 5)
    assert (order[0, :3].sort().values == torch.arange(3)).all()
    assert order[0, 3:].tolist() == [-1, -1] and order[1].tolist() == [0, -1, -1, -1, -1]


def test_equal_scores_keep_the_initial_order() -> None:
    model = psad_model()
    assert model.student is not None
    torch.nn.init.zeros_(model.student.rest[-1][-1].weight)
    assert torch.equal(StudentReranker(model).rerank(random_lists([6]), 6), torch.arange(6)[None])
