"""Contrastive decoding against the release's, place by place, and what must not change it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from release_decoder import released_place
from torch import Tensor

from recascade.data.item_domains import ItemDomains
from recascade_taesar.blocks import DomainBlocks, first_appearance
from recascade_taesar.config import DecodingConfig
from recascade_taesar.decoding import ContrastiveDecoder, PlaceStates, replacements, source_penalty

SIZES = (9, 1, 14, 7)
RELEASE = DecodingConfig(id_shift=1, local_argmax="all")


def some_blocks() -> DomainBlocks:
    codes = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int16)
    return DomainBlocks.of(ItemDomains(tuple("abcd"), codes))


def some_logits(seed: int, places: int = 40, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    common = scale * torch.randn(places, sum(SIZES), generator=generator)
    return tuple(common + torch.randn(common.shape, generator=generator) for _ in range(3))  # type: ignore[return-value]


def decided(seed: int, domain: int, config: DecodingConfig, **changes: Any) -> tuple[Tensor, Tensor]:
    target, mixed, source = some_logits(seed, **changes)
    found = replacements(
        target, mixed, source, source_penalty(mixed, source, config), some_blocks().block(domain), config
    )
    return found.columns, found.scores


@pytest.mark.parametrize("domain", range(len(SIZES)))
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
@settings(max_examples=20)
@given(seed=st.integers(0, 5000), scale=st.floats(0.1, 8.0))
def test_decisions_are_those_of_the_release(domain: int, everywhere: bool, shift: int, seed: int, scale: float) -> None:
    config = DecodingConfig(id_shift=shift, local_argmax="all" if everywhere else "block")
    block = some_blocks().block(domain)
    columns, _ = decided(seed, domain, config, places=8, scale=scale)
    tables = [table.double().numpy() for table in some_logits(seed, places=8, scale=scale)]
    for place, column in enumerate(columns.tolist()):
        target, mixed, source = (table[place] for table in tables)
        low, high = block.start, block.stop
        expected, gap = released_place(target, mixed, source, low, high, shift=shift, everywhere=everywhere)
        inside = block.start <= expected < block.stop
        assert gap < 1e-4 or column == (expected if inside else -1)


@settings(max_examples=20)
@given(seed=st.integers(0, 5000))
def test_places_do_not_depend_on_each_other(seed: int) -> None:
    target, mixed, source = some_logits(seed)
    config, block = DecodingConfig(), some_blocks().block(2)
    whole = replacements(target, mixed, source, source_penalty(mixed, source, config), block, config)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    target, mixed, source = target[order], mixed[order], source[order]
    again = replacements(target, mixed, source, source_penalty(mixed, source, config), block, config)
    assert torch.equal(again.columns, whole.columns[order])


def permuted(seed: int, config: DecodingConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Items found before and after the items of each domain change places, and how far apart their scores are."""
    blocks = some_blocks()
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(blocks.members(domain)) for domain in range(len(SIZES))])
    items, scores = [], []
    for columns in (blocks.order, order):
        target, mixed, source = (table[:, torch.from_numpy(columns)] for table in some_logits(seed))
        penalty = source_penalty(mixed, source, config)
        result = replacements(target, mixed, source, penalty, blocks.block(2), config)
        items.append(torch.where(result.columns >= 0, torch.from_numpy(columns)[result.columns], -1))
        scores.append(result.scores)
    return items[0], items[1], (scores[0] - scores[1]).abs()


@settings(max_examples=20)
@given(seed=st.integers(0, 5000))
def test_numbering_the_items_of_a_domain_anew_changes_nothing(seed: int) -> None:
    before, after, gap = permuted(seed, DecodingConfig())
    # Sums over other orders round differently, so the nearly equal may change places.
    assert ((before == after) | (gap < 1e-4)).all()
    assert (before == after).float().mean() > 0.9


def test_the_error_of_the_release_depends_on_the_numbering() -> None:
    before, after, _ = permuted(1, RELEASE)
    assert not torch.equal(before, after)


def test_a_confident_target_expert_decides() -> None:
    config, block = DecodingConfig(), some_blocks().block(0)
    target, mixed, _ = some_logits(4)
    source = mixed.clone()
    target[:, 5], target[0, 5], target[0, 20] = 60.0, 0.0, 60.0
    columns = replacements(target, mixed, source, source_penalty(mixed, source, config), block, config).columns
    assert columns[0] == -1
    assert (columns[1:] == 5).all()


def test_without_a_divergence_the_score_ranks_by_the_target_expert() -> None:
    config = DecodingConfig(entropy=False, scores="global")
    target, mixed, _ = some_logits(4)
    flat = torch.zeros_like(mixed)
    block = some_blocks().block(2)
    found = replacements(target, flat, flat, source_penalty(flat, flat, config), block, config)
    best = target.argmax(1)
    inside = (best >= block.start) & (best < block.stop)
    assert torch.equal(found.columns, torch.where(inside, best, -1))


def test_the_local_score_alone_deletes_nothing() -> None:
    columns, _ = decided(2, 3, DecodingConfig(scores="local"))
    assert (columns >= some_blocks().block(3).start).all()


def test_a_cut_at_nearly_the_best_probability_leaves_the_best_item() -> None:
    target, mixed, source = some_logits(9)
    config = DecodingConfig(plausibility=0.999)
    block = some_blocks().block(2)
    found = replacements(target, mixed, source, source_penalty(mixed, source, config), block, config).columns
    best = target.argmax(1)
    inside = (best >= block.start) & (best < block.stop)
    assert torch.equal(found >= 0, inside)
    assert torch.equal(found[inside], best[inside])


def test_log_probabilities_do_not_see_a_constant() -> None:
    block = some_blocks().block(2)
    target, mixed, source = some_logits(11)
    columns = {}
    for space in ("logits", "probabilities"):
        config = DecodingConfig(space=space)
        moved = target + torch.linspace(-30, 30, len(target))[:, None]
        found = [
            replacements(table, mixed, source, source_penalty(mixed, source, config), block, config).columns
            for table in (target, moved)
        ]
        columns[space] = torch.equal(*found)
    assert columns == {"logits": False, "probabilities": True}


def test_all_targets_in_one_pass_are_each_target_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(sum(SIZES), 6, generator=generator) for _ in range(5)]
    decoder = ContrastiveDecoder(matrices[0], matrices[1:], some_blocks(), DecodingConfig())
    mixed, source = (torch.randn(300, 6, generator=generator) for _ in range(2))
    targets = {domain: torch.randn(300, 6, generator=generator) for domain in (0, 2, 3)}
    states = PlaceStates(mixed, source, targets)
    together = decoder.decode(states, 1)
    decoder.places, decoder.scored = 17, 5
    for domain, found in together.items():
        alone = decoder.decode(states._replace(targets={domain: states.targets[domain]}), 1)[domain]
        assert torch.equal(alone.columns, found.columns)
        torch.testing.assert_close(alone.scores, found.scores)


def test_the_release_moves_the_last_item_out_and_the_one_before_the_block_in() -> None:
    block = some_blocks().block(2)
    target, mixed, _ = some_logits(3)
    target[0, block.stop - 1] = target[1, block.start - 1] = 80.0
    columns = replacements(target, mixed, mixed, source_penalty(mixed, mixed, RELEASE), block, RELEASE).columns
    assert columns[:2].tolist() == [-1, block.start]
    corrected = replace(RELEASE, id_shift=0)
    columns = replacements(target, mixed, mixed, source_penalty(mixed, mixed, corrected), block, corrected).columns
    assert columns[:2].tolist() == [block.stop - 1, -1]


def test_no_places_give_no_replacements() -> None:
    matrices = [torch.randn(sum(SIZES), 6) for _ in range(5)]
    decoder = ContrastiveDecoder(matrices[0], matrices[1:], some_blocks(), DecodingConfig())
    nothing = torch.empty(0, 6)
    assert len(decoder.decode(PlaceStates(nothing, nothing, {0: nothing}), 1)[0].columns) == 0


def test_blocks_hold_the_items_of_a_domain_in_the_order_of_their_ranks() -> None:
    domains = ItemDomains(("a", "b"), np.array([1, 0, 1, 0], dtype=np.int16))
    blocks = DomainBlocks.of(domains, np.array([5, 9, 2, 3]))
    assert blocks.order.tolist() == [3, 1, 2, 0]
    assert blocks.block(1) == slice(2, 4)
    assert blocks.with_padding().order.tolist() == [-1, 3, 1, 2, 0]
    assert blocks.with_padding().block(1) == slice(3, 5)


def test_first_appearance_numbers_items_as_users_bring_them() -> None:
    users, items = np.array([0, 0, 0, 1, 1]), np.array([2, -1, 0, 2, 3])
    assert np.argsort(first_appearance(users, items, 5), kind="stable").tolist() == [2, 0, 3, 1, 4]
