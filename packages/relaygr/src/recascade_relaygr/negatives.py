"""What a ranker is trained to tell apart: at some places of each history, one target among items that look like it."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.nn.packed import PackedLayout
from recascade.training.negatives import NegativeSampler
from recascade_relaygr.config import CandidatesConfig
from recascade_relaygr.ranker.candidate_groups import CandidateGroups
from recascade_relaygr.ranking_data import RankingBatch

_LEAST_CHANCE = 1e-9


def draw_groups(
    batch: RankingBatch, settings: CandidatesConfig, sampler: NegativeSampler, items: int
) -> tuple[CandidateGroups, Tensor]:
    """Groups of one target, first, and its negatives, at random targets of each history (with repetition).

    Args:
        batch: B histories.
        settings: how many, and from where.
        sampler: of the negatives that are not the user's own.
        items: size of the catalogue.

    Returns:
        The groups, ``[B, places, 1 + negatives]``, and bool of that shape: which negatives are targets at the same
        place, and so not to be counted.
    """
    context = batch.context
    device = context.items.device
    count = len(batch.targets)
    owners = torch.arange(count, device=device) if batch.owners is None else batch.owners
    positions = batch.positions.index_select(0, owners)
    ends = torch.searchsorted(positions, context.offsets[1:].contiguous())
    begins = torch.searchsorted(positions, context.offsets[:-1].contiguous())
    share = torch.rand(context.batch_size, settings.places, device=device)
    chosen = begins[:, None] + (share * (ends - begins)[:, None]).long().clamp(max=count - 1)
    place = positions[chosen]
    seen = place - context.offsets[:-1, None] + 1
    own_count = round(settings.own * settings.negatives)
    shape = (context.batch_size, settings.places)
    earlier = torch.rand(*shape, own_count, device=device) * seen[..., None]
    own = context.items[context.offsets[:-1, None, None] + earlier.long()]
    others = sampler.draw((*shape, settings.negatives - own_count)).to(device)
    drawn = torch.cat([batch.targets[chosen][..., None], own, others], dim=2)
    # A target's neighbours in its basket are no negatives.
    keys = torch.sort(owners * items + batch.targets).values
    wanted = owners[chosen][..., None] * items + drawn
    found = keys[torch.searchsorted(keys, wanted).clamp(max=count - 1)] == wanted
    found[..., 0] = False
    assert batch.times is not None
    groups = CandidateGroups(seen, batch.times[owners[chosen]], drawn)
    correction = _log_chance(groups, context, settings, sampler).masked_fill(found, torch.inf)
    return groups, correction


def _log_chance(
    groups: CandidateGroups, context: Context, settings: CandidatesConfig, sampler: NegativeSampler
) -> Tensor:
    """Logarithm of the chance of each candidate to be drawn as a negative, ``[B, P, G]`` (log-Q correction)."""
    own = round(settings.own * settings.negatives) / settings.negatives
    layout = PackedLayout.of(context.offsets)
    history = context.items.new_full((context.batch_size, layout.longest), -2)
    history[layout.rows, layout.positions] = context.items
    places = torch.arange(layout.longest, device=history.device)
    earlier = places < groups.seen[..., None]
    same = (history[:, None, None] == groups.items[..., None]) & earlier[:, :, None]
    frequency = same.sum(-1) / groups.seen[..., None].clamp(min=1)
    popular = sampler.log_q[groups.items.clamp(min=0)].exp()
    return (own * frequency + (1 - own) * popular).clamp(min=_LEAST_CHANCE).log()
