"""The decoder: what equals the plain one, what depends on what, and what it costs."""

from __future__ import annotations

import pytest
import torch
from lazy_decoders import BUCKETS, SIZES, decoder, item_codes, requests_of
from torch import Tensor
from torch.nn.functional import layer_norm

from recascade.contracts.generator import Beams, Generator
from recascade.errors import ConfigurationError
from recascade.nn.beam_search import beam_search
from recascade.nn.prefix_trie import PrefixTrie
from recascade_gr4ad.fusion import GatedFusion
from recascade_gr4ad.lazy_ar import LazyAR, decoding_work

CONTEXT = requests_of([5, 1, 12, 8])
CODES = item_codes()[torch.randint(60, (4, 9), generator=torch.Generator().manual_seed(3))]
KS = (0, 1, 2, 3)


def normalised(vectors: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    return layer_norm(vectors, norm.normalized_shape, norm.weight, norm.bias)


def attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query ``[H, D]`` over ``[m, H, D]``."""
    scores = torch.einsum("hd,mhd->hm", query, keys) * query.shape[-1] ** -0.5
    return torch.einsum("hm,mhd->hd", scores.softmax(-1), values)


def plain_decoder(model: LazyAR, row: int, codes: list[int]) -> list[Tensor]:
    """Logits of each step of the plain autoregressive decoder, coded independently: one request, one id, one position
    at a time, every layer seeing ``s_{t-1} + p_t``."""
    history = CONTEXT.between(row, row + 1)
    table, starts = model.embedding.table, [sum(SIZES[:level]) for level in range(len(SIZES))]
    item_ids = item_codes()[history.items]
    events = [
        sum(table[starts[level] + int(code)] for level, code in enumerate(item_id))
        + model.history.places[len(item_ids) - 1 - place]
        for place, item_id in enumerate(item_ids)
    ]
    processor = model.context_processor
    sources = [processor.profile(model.history.starts[0]), *(processor.behaviours(event) for event in events)]
    states = normalised(torch.stack(sources), processor.norm)
    begin = model.begin
    assert begin is not None
    inputs = [begin, *(table[starts[level] + code] for level, code in enumerate(codes))]
    stream = [vector + step for vector, step in zip(inputs, model.steps, strict=True)]
    for block, linear in zip(model.blocks, processor.keys_values, strict=True):
        heads = block.heads
        keys, values = (part.view(len(states), heads, -1) for part in linear(states).chunk(2, dim=-1))
        after_context = []
        for vector in stream:
            query = block.context_query(normalised(vector, block.context_norm)).view(heads, -1)
            after_context.append(vector + block.context_output(attention(query, keys, values).flatten()))
        projections = block.self_attention
        own = torch.stack([normalised(vector, block.self_norm) for vector in after_context])
        own_keys, own_values = (part.view(len(own), heads, -1) for part in projections.key_value(own).chunk(2, dim=-1))
        stream = []
        for place, vector in enumerate(after_context):
            query = projections.query(own[place]).view(heads, -1)
            attended = attention(query, own_keys[: place + 1], own_values[: place + 1])
            vector = vector + projections.output(attended.flatten())
            inner = torch.relu(block.feed_forward.expand(normalised(vector, block.feed_forward.norm)))
            stream.append(vector + block.feed_forward.contract(inner))
    finals = [normalised(vector, model.final_norm) for vector in stream]
    return [model.output_vectors(step) @ vector for step, vector in enumerate(finals)]


def teacher_forced(model: LazyAR, codes: Tensor) -> list[Tensor]:
    """Logits ``[B, n, V_t]`` of all steps for whole ids."""
    with torch.no_grad():
        states = model._next_token_states(model.encode(CONTEXT), codes, len(model.steps))
        return [states[:, :, step] @ model.output_vectors(step).t() for step in range(len(model.steps))]


def test_without_trunk_and_with_addition_it_is_the_plain_decoder() -> None:
    model = decoder(trunk_layers=0, fusion="add", fuse_first=True)
    found = teacher_forced(model, CODES)
    with torch.no_grad():
        for row in range(4):
            for place in (0, 8):
                expected = plain_decoder(model, row, CODES[row, place].tolist())
                for step, logits in enumerate(expected):
                    torch.testing.assert_close(found[step][row, place], logits, atol=1e-10, rtol=0)


@pytest.mark.parametrize("settings", [{"trunk_layers": 1, "fusion": "add"}, {"trunk_layers": 0, "fusion": "gated"}])
def test_one_trunk_layer_or_the_gate_makes_another_decoder(settings) -> None:
    """The paper calls K = 1 the plain decoder; it is not."""
    model = decoder(fuse_first=True, **settings)
    with torch.no_grad():
        first = plain_decoder(model, 0, CODES[0, 0].tolist()) if "gated" not in settings.values() else None
    found = teacher_forced(model, CODES)
    plain = decoder(trunk_layers=0, fusion="add", fuse_first=True)
    other = teacher_forced(plain, CODES)
    assert (found[1] - other[1]).abs().max() > 1e-3
    if first is not None:
        assert (found[1][0, 0] - first[1]).abs().max() > 1e-3


def test_the_gate_is_a_linear_product_beside_the_code() -> None:
    fusion = GatedFusion(5).double()
    trunk, code = torch.randn(2, 3, 5, dtype=torch.float64).unbind(0)
    gate, left, right = fusion.gate.weight, fusion.output.weight[:, :5], fusion.output.weight[:, 5:]
    for row in range(3):
        expected = left @ (trunk[row] * (gate @ code[row])) + right @ code[row]
        torch.testing.assert_close(fusion(trunk, code)[row], expected)


def test_past_the_residual_gate_the_trunk_reaches_the_upper_layers_from_the_start() -> None:
    fusion = GatedFusion(5, residual=True).double()
    trunk, code = torch.randn(2, 3, 5, dtype=torch.float64).unbind(0)
    expected = trunk + trunk * (code @ fusion.gate.weight.T) + code
    torch.testing.assert_close(fusion(trunk, code), expected)
    torch.testing.assert_close(fusion(trunk, torch.zeros_like(code)), trunk)
    assert not GatedFusion(5).double()(trunk, torch.zeros_like(code)).any()


@pytest.mark.parametrize("fusion", ["residual", "gated", "add"])
@pytest.mark.parametrize("fuse_first", [False, True])
@pytest.mark.parametrize("trunk_layers", KS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_what_a_search_adds_up_is_the_log_probability_of_the_id(
    fusion, fuse_first, trunk_layers, dtype, tolerance
) -> None:
    """Caches of the upper layers follow their beams, whatever order the search puts them into."""
    model = decoder(dtype=dtype, trunk_layers=trunk_layers, fusion=fusion, fuse_first=fuse_first)
    for parameter in model.parameters():
        parameter.data *= 0.5
    assert isinstance(model, Generator)
    trie = PrefixTrie.build(item_codes(), SIZES)
    with torch.no_grad():
        state = model.encode(CONTEXT)
        found = beam_search(model, state, trie, (5, 9, 20))
        there = found.leaves >= 0
        assert there.sum() > 30
        scores = model.log_prob(state, found.codes.clamp(min=0))
    torch.testing.assert_close(found.log_probs[there], scores[there], atol=tolerance, rtol=0)


@pytest.mark.parametrize("trunk_layers", KS)
def test_steps_in_double_precision_equal_one_pass(trunk_layers) -> None:
    """By hand, in an order of beams that crosses: the eCPM step included."""
    model = decoder(trunk_layers=trunk_layers)
    parents = [torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, 9, dtype=torch.int64)]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5)).expand(4, -1)
    parents += [order, order]
    final = CODES
    at_two = torch.empty_like(CODES).scatter_(1, order[..., None].expand_as(CODES), final)
    at_one = torch.empty_like(CODES).scatter_(1, order[..., None].expand_as(CODES), at_two)
    prefixes = [CODES[:, :1, :0], at_one[..., :1], at_two[..., :2], final]
    expected = teacher_forced(model, final)
    with torch.no_grad():
        state = model.encode(CONTEXT)
        stepped = [model.step(state, Beams(codes, places)) for codes, places in zip(prefixes, parents, strict=True)]
    torch.testing.assert_close(stepped[3], expected[3].log_softmax(-1), atol=1e-12, rtol=0)
    torch.testing.assert_close(stepped[0].expand(-1, 9, -1), expected[0].log_softmax(-1), atol=1e-12, rtol=0)
    assert stepped[3].shape == (4, 9, BUCKETS)


@pytest.mark.parametrize("trunk_layers", KS)
def test_a_code_changes_the_steps_behind_it_and_none_before(trunk_layers) -> None:
    model = decoder(trunk_layers=trunk_layers)
    before = teacher_forced(model, CODES)
    for level, size in enumerate(SIZES):
        changed = CODES.clone()
        changed[..., level] = (changed[..., level] + 1) % size
        after = teacher_forced(model, changed)
        for step in range(len(SIZES) + 1):
            if step <= level:
                assert torch.equal(before[step], after[step])
            else:
                assert (before[step] - after[step]).abs().amax(-1).min() > 1e-6


def test_the_trunk_knows_neither_codes_nor_beams() -> None:
    model = decoder()
    trie = PrefixTrie.build(item_codes(), SIZES)
    with torch.no_grad():
        state = model.encode(CONTEXT)
        trunk = state.trunk.clone()
        beam_search(model, state, trie, (3, 4, 5))
        model.log_prob(state, CODES)
        assert torch.equal(state.trunk, trunk)
        assert trunk.shape == (4, 1, len(SIZES) + 1, 8)
        alone = model.encode(CONTEXT.between(2, 3)).trunk
    torch.testing.assert_close(trunk[2:3], alone, atol=1e-12, rtol=0)


def test_prediction_without_codes_does_not_depend_on_them() -> None:
    model = decoder()
    targets, positions = CODES[:, 0], CONTEXT.offsets[1:] - 1
    with torch.no_grad():
        one, other = (model.target_states(CONTEXT, positions, codes, None) for codes in (targets, (targets + 1) % 5))
    assert torch.equal(one.multi_token, other.multi_token)
    assert one.multi_token.shape == (4, len(SIZES), 8)
    assert not torch.equal(one.next_token, other.next_token)


def test_several_targets_of_a_request_stand_where_their_owners_say() -> None:
    model = decoder()
    owners = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    targets = item_codes()[10:17]
    positions = CONTEXT.offsets[1:] - 1
    with torch.no_grad():
        together = model.target_states(CONTEXT, positions, targets, owners)
        for place, owner in enumerate(owners.tolist()):
            request = CONTEXT.between(owner, owner + 1)
            alone = model.target_states(request, request.offsets[1:] - 1, targets[place : place + 1], None)
            torch.testing.assert_close(together.next_token[place], alone.next_token[0], atol=1e-12, rtol=0)
            torch.testing.assert_close(together.multi_token[place], alone.multi_token[0], atol=1e-12, rtol=0)


def test_beams_that_share_the_context_see_what_copies_of_it_would_show() -> None:
    model = decoder()
    beams = 9
    with torch.no_grad():
        shared = model.log_prob(model.encode(CONTEXT), CODES)
        for beam in range(beams):
            own = model.log_prob(model.encode(CONTEXT), CODES[:, beam : beam + 1])
            torch.testing.assert_close(shared[:, beam : beam + 1], own, atol=1e-12, rtol=0)


def test_the_context_is_read_once_per_step_whatever_the_beams(monkeypatch: pytest.MonkeyPatch) -> None:
    from recascade.nn import shared_context

    read: list[int] = []
    original = shared_context._attend

    def counting(query, keys, *rest):
        read.append(keys.numel())
        return original(query, keys, *rest)

    monkeypatch.setattr(shared_context, "_attend", counting)
    model = decoder()
    trie = PrefixTrie.build(item_codes(), SIZES)
    sums = []
    for widths in ((1, 1, 1), (7, 20, 40)):
        read.clear()
        with torch.no_grad():
            beam_search(model, model.encode(CONTEXT), trie, widths)
        sums.append(sum(read))
    assert sums[0] == sums[1]


@pytest.mark.parametrize("trunk_layers", KS)
@pytest.mark.parametrize("buckets", [0, BUCKETS])
def test_work_is_what_the_formula_says(trunk_layers, buckets) -> None:
    model = decoder(trunk_layers=trunk_layers, value_buckets=buckets)
    trie = PrefixTrie.build(item_codes(), SIZES)
    widths = (3, 6, 10)
    with torch.no_grad():
        state = model.encode(CONTEXT)
        found = beam_search(model, state, trie, widths)
        if buckets:
            model.step(state, Beams(found.codes, torch.zeros_like(found.leaves)))
    steps = 3 + bool(buckets)
    total = sum((1, *widths)[:steps])
    assert state.layer_tokens == trunk_layers * steps + (4 - trunk_layers) * total
    assert decoding_work(4, trunk_layers, steps, widths) == state.layer_tokens
    assert decoding_work(4, 0, steps, widths) == 4 * total


def test_work_of_the_papers_setting() -> None:
    assert decoding_work(9, 0, 4, (128, 256, 512)) == 8073
    assert decoding_work(9, 6, 4, (128, 256, 512)) == 2715
    assert decoding_work(9, 0, 4, (512, 512, 512)) == 13833
    assert decoding_work(9, 6, 4, (512, 512, 512)) == 4635


@pytest.mark.parametrize("trunk_layers", [-1, 4])
def test_at_least_one_layer_sees_the_code_before(trunk_layers) -> None:
    with pytest.raises(ConfigurationError, match="at least one layer"):
        decoder(trunk_layers=trunk_layers)


def test_layers_share_sets_of_keys_in_order() -> None:
    model = decoder(context_sets=2)
    assert model.set_of_layer == [0, 0, 1, 1]
    assert len(model.context_processor.keys_values) == 2
    state = model.encode(CONTEXT)
    assert state.contexts[0] is state.contexts[1] and state.contexts[1] is not state.contexts[2]
