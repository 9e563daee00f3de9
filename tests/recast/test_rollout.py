"""Groups of answers: ids of the tree alone, from the policy's own probabilities."""

from __future__ import annotations

import pytest
import torch
from small_generators import NAMES, SIZES, item_codes, prompts, small_generator

from recascade.errors import ConfigurationError
from recascade.nn.beam_search import exhaustive_log_probs
from recascade.nn.code_tree import CompleteTree
from recascade.nn.prefix_trie import PrefixTrie
from recascade_recast.actor import code_log_probs
from recascade_recast.config import RolloutConfig
from recascade_recast.rollout import roll_out, sample_ids
from recascade_recast.targets import pick_anchors, target_ids

TRIE = PrefixTrie.build(item_codes(), SIZES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("search", ("beam", "sample"))
def test_every_answer_is_an_items_id(name: str, search: str) -> None:
    model = small_generator(name).eval()
    state = model.encode(prompts().context)
    codes = roll_out(model, state, TRIE, RolloutConfig(search=search, width=9))
    assert codes.shape == (6, 9, 3)
    assert (TRIE.find(codes) >= 0).all()
    if search == "beam":
        assert all(len(torch.unique(group, dim=0)) == 9 for group in codes)


def test_draws_follow_the_probabilities_along_the_tree() -> None:
    model = small_generator().eval()
    context = prompts(1).context
    ids = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    expected = exhaustive_log_probs(model, model.encode(context), ids)[0]
    torch.manual_seed(0)
    for temperature in (1.0, 2.0):
        drawn = sample_ids(model, model.encode(context), CompleteTree(SIZES), 20_000, temperature)[0]
        counts = torch.bincount(drawn[:, 0] * 30 + drawn[:, 1] * 6 + drawn[:, 2], minlength=120) / 20_000
        if temperature == 1:
            assert (counts - expected.exp()).abs().max() < 0.015
            nats = (counts * expected).sum()
        else:
            assert (counts * expected).sum() < nats - 0.1


def test_a_forbidden_code_is_never_drawn_and_the_rest_share_its_probability() -> None:
    model = small_generator().eval()
    trie = PrefixTrie.build(torch.tensor([[0, 0, 0], [1, 0, 0]]), SIZES)
    state = model.encode(prompts(1).context)
    torch.manual_seed(0)
    drawn = sample_ids(model, state, trie, 5_000, 1.0)[0]
    assert set(map(tuple, drawn.tolist())) == {(0, 0, 0), (1, 0, 0)}
    first = torch.tensor([[[0, 0, 0], [1, 0, 0]]])
    odds = code_log_probs(model, state, first)[0][0, :, 0].softmax(0)
    assert (drawn[:, 0] == 1).double().mean().item() == pytest.approx(odds[1].item(), abs=0.03)


def test_more_beams_than_ids_are_refused() -> None:
    model = small_generator().eval()
    with pytest.raises(ConfigurationError, match=r"width is 41, but there are only 40 ids"):
        roll_out(model, model.encode(prompts().context), TRIE, RolloutConfig(width=41))


def test_targets_are_sets_and_anchors_are_among_them() -> None:
    batch = prompts(baskets=True)
    targets = target_ids(batch, item_codes())
    assert (targets >= 0).all(-1).sum(1).tolist() == [1, 2, 3, 1, 2, 3]
    assert torch.equal(targets[(targets >= 0).all(-1)], item_codes()[batch.targets])
    assert torch.equal(pick_anchors(targets, "first"), targets[:, 0])
    torch.manual_seed(0)
    drawn = torch.stack([pick_anchors(targets, "random") for _ in range(30)])
    assert (drawn[:, :, None] == targets).all(-1).any(-1).all()
    assert len(torch.unique(drawn[:, 2], dim=0)) == 3
    single = prompts()
    assert torch.equal(target_ids(single, item_codes())[:, 0], item_codes()[single.targets])
