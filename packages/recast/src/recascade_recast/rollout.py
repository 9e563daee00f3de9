"""Groups of answers from the policy as it is: beams, or independent draws along the tree of ids."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.generator import Beams, Generator, State
from recascade.errors import ConfigurationError
from recascade.nn.beam_search import beam_search
from recascade.nn.code_tree import CodeTree
from recascade_recast.config import RolloutConfig


def roll_out(generator: Generator[State], state: State, tree: CodeTree, settings: RolloutConfig) -> Tensor:
    """G ids for each of P requests.

    Beams come in falling order of probability and are distinct; draws are independent and may repeat. Ratios are later
    taken as if beams were draws, as OpenOneRec's code does.

    Args:
        generator: the policy.
        state: of P requests.
        tree: the ids to choose from, on the state's device.
        settings: which search, and G.

    Returns:
        int64 ``[P, G, L]``.

    Raises:
        ConfigurationError: the tree has fewer ids than a beam must find.
    """
    if settings.search == "sample":
        return sample_ids(generator, state, tree, settings.width, settings.temperature)
    found = beam_search(generator, state, tree, (settings.width,) * len(tree.sizes))
    if bool((found.leaves < 0).any()):
        raise ConfigurationError(
            f"model.rollout.width is {settings.width}, but there are only {int((found.leaves[0] >= 0).sum())} ids to "
            "find. Set a smaller width, or model.rollout.search=sample."
        )
    return found.codes


@torch.no_grad()
def sample_ids(generator: Generator[State], state: State, tree: CodeTree, count: int, temperature: float) -> Tensor:
    """Independent draws, code by code, from the generator's probabilities restricted to the tree.

    Drawn with torch's own generator of the state's device, by the Gumbel maximum.

    Args:
        generator: the policy.
        state: of P requests.
        tree: the ids to choose from.
        count: G, draws per request.
        temperature: divides the log-probabilities.

    Returns:
        int64 ``[P, G, L]``.
    """
    beams = Beams.start(state.batch_size, state.device)
    nodes = torch.zeros(state.batch_size, count, dtype=torch.int64, device=state.device)
    drawn = nodes[..., None][..., :0]
    for level in range(len(tree.sizes)):
        log_probs = generator.step(state, beams).expand(-1, count, -1)
        codes, children = tree.continuations(nodes, level)
        logits = (log_probs.gather(2, codes) / temperature).masked_fill(children < 0, -torch.inf)
        waiting = torch.empty_like(logits).exponential_()
        best = (logits - waiting.log()).argmax(2, keepdim=True)
        nodes = children.gather(2, best)[..., 0]
        drawn = torch.cat([drawn, codes.gather(2, best)], dim=2)
        # After the first step every draw goes on from the one beam there was, later from itself.
        parents = torch.arange(count, device=state.device).expand_as(nodes) if level else torch.zeros_like(nodes)
        beams = Beams(drawn, parents)
    return drawn
