"""Which sequences form which batch: a pure function of (lengths, settings, seed, epoch).

Nothing here holds state, so an interrupted epoch continues exactly where it stopped: the plan is computed again and the
batches that were already trained on are skipped.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, DataError


class BatchSettings(Protocol):
    """What a data module needs to know of the trainer's configuration (``TrainerConfig`` has these fields).

    Attributes:
        batch_sequences: most sequences in a batch.
        batch_tokens: most events in a batch; 0 for no such budget.
        bucket: sequences are sorted by length inside windows of this many batches; 1 keeps pure random order.
        validation_users: validate on at most this many users (seeded sample); 0 for all.
        workers: loader processes; 0 assembles batches in the training process.
    """

    batch_sequences: int
    batch_tokens: int
    bucket: int
    validation_users: int
    workers: int


def plan_batches(
    lengths: NDArray[np.int64],
    *,
    batch_sequences: int,
    batch_tokens: int = 0,
    bucket: int = 1,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> list[NDArray[np.int64]]:
    """The batches of one epoch for one rank, in training order.

    The batches do not depend on the number of ranks: each rank gets its share of every batch, so that processes that
    train together make the steps that one process would make. (Only where batches would have fewer sequences than
    there are ranks do they grow.) Over all ranks every sequence occurs exactly once per epoch. Every rank gets the same
    number of shares, the number is the same in every epoch, and no share is empty. The shares of a batch hold about
    equally many events, so that no rank waits long for another.

    The order is random in three stages: all sequences are permuted; inside each window of ``bucket`` batches they are
    sorted by length (equal lengths stay in random order) and cut into batches of about equal size; the batches are
    permuted.

    Args:
        lengths: int64 ``[N]``, events per sequence.
        batch_sequences: most sequences in a batch, over all ranks.
        batch_tokens: most events in a batch, over all ranks, at least twice the longest sequence; 0 for no budget
            beside the sequences.
        bucket: window of the sort, in batches. Larger windows waste less padding and mix less.
        seed: of the run.
        epoch: counted from 0.
        rank: this process among ``world_size``.
        world_size: processes that train together.

    Returns:
        One int64 array of sequence indices per batch: the rank's share of it.

    Raises:
        ConfigurationError: a budget that no batch can keep.
        DataError: fewer sequences than processes.
    """
    count = batch_count(lengths, batch_sequences=batch_sequences, batch_tokens=batch_tokens, world_size=world_size)
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    if bucket > 1:
        window = np.arange(len(order)) // max(1, bucket * len(order) // count)
        order = order[np.lexsort((lengths[order], window))]
    if _tokens_bind(lengths, batch_sequences, batch_tokens):
        cuts = _equal_cost_cuts(_cost(lengths[order], batch_sequences, batch_tokens), count, world_size)
    else:
        cuts = np.arange(1, count) * len(order) // count
    batches = np.split(order, cuts)
    steps = random.permutation(count)
    if world_size == 1:
        return [batches[step] for step in steps]
    return [np.split(batches[step], _equal_cost_cuts(lengths[batches[step]], world_size))[rank] for step in steps]


def batch_count(lengths: NDArray[np.int64], *, batch_sequences: int, batch_tokens: int = 0, world_size: int = 1) -> int:
    """Batches per epoch, the same for every rank, seed and epoch.

    With a token budget each batch is cut where the accumulated cost passes a multiple of ``total / count``. Such a
    batch exceeds that share by less than its last sequence, so ``count`` is chosen to leave room for the most expensive
    one. Only where a batch would have fewer sequences than there are processes do the budgets give way.
    """
    if batch_sequences < 1 or batch_tokens < 0:
        raise ConfigurationError(
            f"trainer.batch_sequences is {batch_sequences} and trainer.batch_tokens is {batch_tokens}; "
            "a batch needs at least 1 sequence, and 0 tokens means no token budget."
        )
    sequences = len(lengths)
    if sequences < world_size:
        raise DataError(
            f"There are {sequences} training sequences for {world_size} training processes. "
            "Loosen the split's filters, or train on fewer devices."
        )
    longest = int(lengths.max())
    if batch_tokens and batch_tokens < 2 * longest:
        raise ConfigurationError(
            f"trainer.batch_tokens is {batch_tokens}, but the longest sequence has {longest} events. "
            f"Set it to at least {2 * longest}, or shorten the sequences (max_length)."
        )
    count = -(-sequences // batch_sequences)
    if _tokens_bind(lengths, batch_sequences, batch_tokens):
        cost = _cost(lengths, batch_sequences, batch_tokens)
        budget = batch_sequences * batch_tokens
        total = int(cost.sum())
        count = 1 if total <= budget else -(-total // (budget - int(cost.max())))
    return min(count, sequences // world_size)


def _tokens_bind(lengths: NDArray[np.int64], batch_sequences: int, batch_tokens: int) -> bool:
    """Whether some batch of ``batch_sequences`` sequences could break the token budget."""
    return 0 < batch_tokens < batch_sequences * int(lengths.max())


def _cost(lengths: NDArray[np.int64], batch_sequences: int, batch_tokens: int) -> NDArray[np.int64]:
    """Share of a batch that a sequence takes, in units of ``1 / (batch_sequences * batch_tokens)``.

    The sum over a batch is at most 1 only if both budgets hold, because the maximum of two shares is at least each of
    them.
    """
    return np.maximum(batch_tokens, batch_sequences * lengths)


def _equal_cost_cuts(cost: NDArray[np.int64], count: int, least: int = 1) -> NDArray[np.int64]:
    """Where to cut a row of sequences into ``count`` batches of about equal cost, each of at least ``least`` sequences:
    int64 ``[count - 1]``."""
    ends = np.cumsum(cost)
    starts = ends - cost
    cuts = np.searchsorted(starts, np.arange(1, count) * (float(ends[-1]) / count))
    # A sequence longer than a batch's share would leave the batch after it empty: that one takes the next sequence.
    steps = np.arange(1, count) * least
    cuts = np.maximum.accumulate(np.maximum(cuts, least) - steps) + steps
    return np.minimum(cuts, len(cost) - count * least + steps)
