"""What every generator over semantic ids must satisfy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams, Generator
from recascade.errors import ConfigurationError, DataError
from recascade.models.code_generator import CodeGenerator
from recascade.models.decoder_only import DecoderOnly
from recascade.models.target_grid import TargetGrid
from recascade.models.tiger import TIGER
from recascade.nn.beam_search import beam_search, exhaustive_log_probs
from recascade.nn.prefix_trie import PrefixTrie

ITEMS, SIZES, LENGTH = 60, (7, 6, 9), 12
SMALL = {"dimension": 16, "heads": 2, "hidden": 32, "max_length": LENGTH, "dropout": 0.2}

MODELS: dict[str, Callable[..., CodeGenerator]] = {
    "tiger": lambda codes: TIGER(codes, SIZES, encoder_blocks=2, decoder_blocks=2, head_width=12, **SMALL),
    "tiger-causal": lambda codes: TIGER(
        codes, SIZES, encoder_blocks=1, decoder_blocks=2, head_width=None, causal=True, **SMALL
    ),
    "tiger-items": lambda codes: TIGER(
        codes, SIZES, encoder_blocks=1, decoder_blocks=1, head_width=None, reading="items", user_buckets=3, **SMALL
    ),
    "decoder-only": lambda codes: DecoderOnly(codes, SIZES, blocks=2, **SMALL),
    "decoder-only-items": lambda codes: DecoderOnly(codes, SIZES, blocks=2, reading="items", user_buckets=3, **SMALL),
}


def item_codes() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(size, (ITEMS,), generator=random) for size in SIZES], dim=1)


def make_context(lengths: list[int], seed: int = 1) -> Context:
    random = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    items = torch.randint(ITEMS, (int(offsets[-1]),), generator=random)
    return Context(torch.arange(len(lengths)) - 1, items, torch.zeros_like(items), offsets)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> CodeGenerator:
    torch.manual_seed(0)
    made = MODELS[request.param](item_codes()).double().eval()
    # Initial logits are nearly equal; ranks should not hang on rounding.
    for parameter in (made.output.table, made.embedding.table):
        torch.nn.init.normal_(parameter)
    return made


CONTEXT = make_context([5, 1, 12, 0, 8])


def by_steps(model: CodeGenerator, context: Context, codes: Tensor) -> Tensor:
    """[B, n] log-probabilities, code by code through the cache."""
    state = model.encode(context)
    beams = Beams.start(context.batch_size, context.items.device)
    total = torch.zeros(codes.shape[:2], dtype=torch.float64)
    for level in range(codes.shape[2]):
        log_probs = model.step(state, beams).expand(-1, codes.shape[1], -1)
        total += log_probs.gather(2, codes[..., level, None])[..., 0]
        parents = torch.arange(codes.shape[1]).expand(codes.shape[:2]) * (level > 0)
        beams = Beams(codes[..., : level + 1], parents)
    return total


def test_is_a_generator(model: CodeGenerator) -> None:
    assert isinstance(model, Generator)


@torch.no_grad()
def test_code_by_code_gives_the_log_probability_of_the_whole(model: CodeGenerator) -> None:
    codes = item_codes()[torch.randint(ITEMS, (5, 7))]
    whole = model.log_prob(model.encode(CONTEXT), codes)
    torch.testing.assert_close(by_steps(model, CONTEXT, codes), whole, rtol=1e-12, atol=1e-12)
    single = model.float()
    torch.testing.assert_close(by_steps(single, CONTEXT, codes).float(), whole.float(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_probabilities_of_all_combinations_sum_to_one(model: CodeGenerator) -> None:
    grid = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    log_probs = exhaustive_log_probs(model, model.encode(CONTEXT), grid, chunk=100)
    torch.testing.assert_close(log_probs.logsumexp(1), torch.zeros(5, dtype=torch.float64))


def test_beams_are_the_exhaustive_ranking_when_wide_and_reordered_right_when_narrow(model: CodeGenerator) -> None:
    ids = torch.unique(item_codes(), dim=0)
    trie = PrefixTrie.build(item_codes(), SIZES)
    state = model.encode(CONTEXT)
    scores, order = exhaustive_log_probs(model, state, ids).sort(dim=1, descending=True)
    wide = beam_search(model, state, trie, (len(ids),) * 3)
    torch.testing.assert_close(wide.log_probs, scores)
    assert torch.equal(wide.codes, ids[order])
    narrow = beam_search(model, state, trie, (3, 4, 5))
    there = narrow.leaves >= 0
    with torch.no_grad():
        whole = model.log_prob(state, narrow.codes.clamp(min=0))
    torch.testing.assert_close(whole[there], narrow.log_probs[there])


@torch.no_grad()
def test_a_later_code_changes_nothing_before_it(model: CodeGenerator) -> None:
    state = model.encode(CONTEXT)
    codes = item_codes()[torch.randint(ITEMS, (5, 2))]
    for level in range(3):
        changed = codes.clone()
        changed[..., level] = (changed[..., level] + 1) % SIZES[level]
        before, after = (
            model._states(state.contexts, state.begin.expand(-1, 2, -1), some) for some in (codes, changed)
        )
        assert torch.equal(before[:, :, : level + 1], after[:, :, : level + 1])
        if level < 2:
            assert not torch.allclose(before[:, :, level + 1], after[:, :, level + 1])


@torch.no_grad()
def test_requests_do_not_see_each_other(model: CodeGenerator) -> None:
    codes = item_codes()[torch.randint(ITEMS, (5, 4))]
    together = model.log_prob(model.encode(CONTEXT), codes)
    for request in range(5):
        alone = model.log_prob(model.encode(CONTEXT.between(request, request + 1)), codes[request : request + 1])
        torch.testing.assert_close(alone[0], together[request])


@torch.no_grad()
def test_targets_are_predicted_from_the_events_before_them_alone(model: CodeGenerator) -> None:
    """Teacher forcing over a batch gives what a request with just that history gives."""
    context = make_context([5, 1, 12, 8])
    if model.one_pass:
        positions = torch.tensor([0, 2, 4, 5, 6, 17, 20, 25])
        owners = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 5, 6, 7])
    else:
        positions, owners = context.offsets[1:] - 1, torch.tensor([0, 0, 1, 2, 3, 3])
    targets = item_codes()[torch.randint(ITEMS, (len(owners),))]
    states = model.target_states(context, positions, targets, owners)
    for number, owner in enumerate(owners.tolist()):
        row = int(context.rows[positions[owner]])
        history = context.between(row, row + 1)
        until = int(positions[owner] - context.offsets[row]) + 1
        history = Context(history.users, history.items[:until], history.timestamps[:until], torch.tensor([0, until]))
        state = model.encode(history)
        alone = model._states(state.contexts, state.begin, targets[number].view(1, 1, -1))
        torch.testing.assert_close(states[number], alone[0, 0])


def test_gradients_reach_every_parameter(model: CodeGenerator) -> None:
    context = make_context([5, 1, 12, 8])
    codes = item_codes()[torch.randint(ITEMS, (4,))]
    states = model.train().target_states(context, context.offsets[1:] - 1, codes, None)
    loss = sum((states[:, level] @ model.output_vectors(level).t()).logsumexp(1).sum() for level in range(3))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_several_steps_may_begin_anew(model: CodeGenerator) -> None:
    trie = PrefixTrie.build(item_codes(), SIZES)
    state = model.encode(CONTEXT)
    first, second = (beam_search(model, state, trie, (3, 4, 5)) for _ in range(2))
    assert torch.equal(first.codes, second.codes) and torch.equal(first.log_probs, second.log_probs)


def test_a_history_that_is_too_long_is_refused(model: CodeGenerator) -> None:
    with pytest.raises(DataError, match="reads at most 12"):
        model.encode(make_context([13]))


def test_items_without_ids_are_refused() -> None:
    codes = item_codes()
    codes[3, 1] = -1
    with pytest.raises(DataError, match="Every item needs an id of 3 codes"):
        DecoderOnly(codes, SIZES, **SMALL)


def test_heads_must_divide_the_dimension_or_have_a_width() -> None:
    with pytest.raises(ConfigurationError, match="heads=3"):
        DecoderOnly(item_codes(), SIZES, **(SMALL | {"heads": 3}))


def test_users_share_start_tokens_and_unknown_users_have_their_own() -> None:
    torch.manual_seed(0)
    model = MODELS["decoder-only-items"](item_codes()).eval()
    same = Context(
        torch.tensor([0, 3, 1, -1]),
        *(getattr(make_context([2] * 4), n) for n in ("items", "timestamps")),
        torch.arange(5) * 2,
    )
    same.items[:] = 5
    tokens, layout = model.history(same)
    starts = tokens[layout.offsets[:-1]]
    assert torch.equal(starts[0], starts[1])
    assert len(torch.unique(starts, dim=0)) == 3


def test_grid_gives_every_target_a_place() -> None:
    context = make_context([3, 4])
    grid = TargetGrid.of(context, torch.tensor([0, 2, 6]), torch.tensor([0, 1, 1, 2]))
    assert grid.targets.tolist() == [[0, 1, 2], [3, 3, 3]]
    assert grid.cells.tolist() == [0, 1, 2, 3]
    assert grid.events.tolist() == [[1, 3, 3], [4, 4, 4]]
