from __future__ import annotations

import pytest
import torch

from recascade.nn.target_attention import TargetAttention

OFFSETS = torch.tensor([0, 2, 2, 5])
ROWS = torch.tensor([0, 0, 2, 2, 2])


def reference(unit: TargetAttention, events: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """One candidate's attention over one history, event by event."""
    logits = []
    for event in events:
        hidden = unit.candidate(candidate) + unit.event(event) + unit.product(candidate * event)
        logits.append(unit.output(torch.relu(hidden)))
    weights = torch.cat([torch.zeros(0), *logits])
    if unit.weights == "softmax":
        weights = weights.softmax(0)
    return (weights[:, None] * events).sum(0)


@pytest.mark.parametrize("weights", ["plain", "softmax"])
def test_packed_attention_is_a_loop(weights) -> None:
    torch.manual_seed(0)
    unit = TargetAttention(4, 6, weights)
    events, candidates = torch.randn(5, 4), torch.randn(3, 2, 4)
    found = unit(events, OFFSETS, ROWS, candidates)
    for request, (start, stop) in enumerate([(0, 2), (2, 2), (2, 5)]):
        for place in range(2):
            expected = reference(unit, events[start:stop], candidates[request, place])
            torch.testing.assert_close(found[request, place], expected)


@pytest.mark.parametrize("weights", ["plain", "softmax"])
def test_the_order_of_events_does_not_matter(weights) -> None:
    torch.manual_seed(0)
    unit = TargetAttention(4, 6, weights)
    events, candidates = torch.randn(5, 4), torch.randn(3, 2, 4)
    swapped = unit(events[[1, 0, 4, 3, 2]], OFFSETS, ROWS, candidates)
    torch.testing.assert_close(swapped, unit(events, OFFSETS, ROWS, candidates))


def test_plain_weights_tell_how_strong_an_interest_is() -> None:
    torch.manual_seed(0)
    unit, normalised = TargetAttention(4, 6), TargetAttention(4, 6, "softmax")
    normalised.load_state_dict(unit.state_dict())
    event, candidates = torch.randn(1, 4), torch.randn(2, 1, 4)
    offsets, rows = torch.tensor([0, 1, 3]), torch.tensor([0, 1, 1])
    candidates[1] = candidates[0]
    once, twice = unit(event.repeat(3, 1), offsets, rows, candidates)
    torch.testing.assert_close(twice, 2 * once)
    once, twice = normalised(event.repeat(3, 1), offsets, rows, candidates)
    torch.testing.assert_close(twice, once)
