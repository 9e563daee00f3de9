"""Beam search over semantic ids, restricted to those that items have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recascade.contracts.generator import Beams, Generator, State
from recascade.errors import ConfigurationError
from recascade.nn.code_tree import CodeTree
from recascade.nn.stable_top_k import stable_top_k


class FoundIds(NamedTuple):
    """The ids that a search found for B requests, best first, W places each.

    ``codes`` int64 ``[B, W, L]`` (-1 where fewer than W were found), ``leaves`` int64 ``[B, W]``, nodes of the tree's
    last depth (-1 there), ``log_probs`` float ``[B, W]`` (-inf there), ``parents`` int64 ``[B, W]``, where each id's
    prefix stood among the beams of the last step, for a generator that goes on (0 there).
    """

    codes: Tensor
    leaves: Tensor
    log_probs: Tensor
    parents: Tensor


@torch.no_grad()
def beam_search(generator: Generator[State], state: State, tree: CodeTree, widths: Sequence[int]) -> FoundIds:
    """The best ids of each request, as far as beams of these widths see.

    Each step asks the generator for the log-probabilities of the next code, normalised over all codes of the level, and
    takes from them those of the tree's continuations without normalising again (as STATIC, arXiv 2602.22647; masking
    before the softmax would rank differently), so that scores stay log-probabilities of whole ids. Then each beam keeps
    its own best continuations, and the best of all beams' go on (GR4AD, arXiv 2602.22732, "TopK Pre-Cut"; exact). Ties
    go to the better beam, then to the lower code. Where there are fewer continuations than beams, places stay empty: no
    id outside the tree is ever returned. All shapes follow from those of the arguments, and nothing in the search waits
    for the device (``recascade.nn.captured_beam_search``).

    Args:
        generator: what gives the probabilities.
        state: of B requests, from ``generator.encode``.
        tree: the ids to choose from, on the state's device.
        widths: beams kept after each of the L levels; the last is W. Widths that rise with the level cost least for the
            same final list (GR4AD, table 4).

    Returns:
        At most W ids per request; ``log_probs`` has the dtype of the generator's.

    Raises:
        ConfigurationError: not one positive width per level.
    """
    if len(widths) != len(tree.sizes) or min(widths) < 1:
        raise ConfigurationError(
            f"The beam widths are {list(widths)}; ids of {len(tree.sizes)} codes need {len(tree.sizes)} of them, each "
            "at least 1."
        )
    beams = Beams.start(state.batch_size, state.device)
    nodes, scores = torch.zeros_like(beams.parents), torch.zeros_like(beams.parents, dtype=torch.float32)
    for level, width in enumerate(widths):
        log_probs = generator.step(state, beams)
        codes, children, scores = _continue(log_probs, tree, nodes, scores, level, width)
        best, places = stable_top_k(scores.flatten(1), width)
        kept = scores.shape[2]
        parents = places // kept
        codes, nodes = codes.flatten(1).gather(1, places), children.flatten(1).gather(1, places)
        prefix = beams.codes.gather(1, parents[..., None].expand(-1, -1, level))
        beams, scores = Beams(torch.cat([prefix, codes[..., None]], dim=2), parents), best
    missing = scores == -torch.inf
    found = FoundIds(
        beams.codes.masked_fill(missing[..., None], -1),
        nodes.masked_fill(missing, -1),
        scores,
        beams.parents.masked_fill(missing, 0),
    )
    return _filled(found, widths[-1])


def _continue(
    log_probs: Tensor, tree: CodeTree, nodes: Tensor, scores: Tensor, level: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, nodes and scores ``[B, n, ≤ width]`` of each beam's best continuations, -inf where it has no more."""
    # At the start all requests stand at the root: look once.
    looked = nodes[:1] if level == 0 else nodes.clamp(min=0)
    codes, children = tree.continuations(looked, level)
    codes, children = (tensor.expand(len(nodes), -1, -1) for tensor in (codes, children))
    scores = (scores[..., None] + log_probs.gather(2, codes)).masked_fill(children < 0, -torch.inf)
    if scores.shape[2] <= width:
        return codes, children, scores
    best, places = stable_top_k(scores, width)
    return codes.gather(2, places), children.gather(2, places), best


def _filled(found: FoundIds, width: int) -> FoundIds:
    """The same with empty places up to ``width``."""
    missing = width - found.codes.shape[1]
    return FoundIds(
        pad(found.codes, (0, 0, 0, missing), value=-1),
        pad(found.leaves, (0, missing), value=-1),
        pad(found.log_probs, (0, missing), value=-torch.inf),
        pad(found.parents, (0, missing)),
    )


@torch.no_grad()
def exhaustive_log_probs(generator: Generator[State], state: State, codes: Tensor, chunk: int = 1024) -> Tensor:
    """Log-probabilities ``[B, N]`` of all given ids (int64 ``[N, L]``) for each request: what a search approximates.

    Args:
        generator: what gives the probabilities.
        state: of B requests.
        codes: the ids.
        chunk: ids scored at once.
    """
    parts = [codes[start : start + chunk] for start in range(0, len(codes), chunk)]
    return torch.cat([generator.log_prob(state, part.expand(state.batch_size, -1, -1)) for part in parts], dim=1)
