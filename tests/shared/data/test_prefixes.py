from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.prefixes import PrefixData
from recascade.training.config import TrainerConfig

HISTORIES = [[0, 1, 2, 3, 4], [5], [], [6, 7, 8]]


def everything(data: PrefixData) -> list[tuple[int, list[int], list[int]]]:
    """User, history and targets of every training sequence of one epoch."""
    rows = []
    for batch in data.train_dataloader():
        context = batch.context
        assert batch.positions.tolist() == (context.offsets[1:] - 1).tolist()
        owners = torch.arange(context.batch_size) if batch.owners is None else batch.owners
        for row, user in enumerate(context.users.tolist()):
            history = context.items[context.offsets[row] : context.offsets[row + 1]].tolist()
            rows.append((user, history, batch.targets[owners == row].tolist()))
    return sorted(rows)


def test_every_target_has_the_events_before_it(encoded_split) -> None:
    data = PrefixData(encoded_split(HISTORIES, items=9), TrainerConfig(batch_sequences=2), max_length=3)
    assert everything(data) == [
        (0, [0], [1]),
        (0, [0, 1], [2]),
        (0, [0, 1, 2], [3]),
        (0, [1, 2, 3], [4]),
        (3, [6], [7]),
        (3, [6, 7], [8]),
    ]


def test_groups_are_predicted_whole_and_only_from_outside(encoded_split) -> None:
    split = encoded_split(HISTORIES, items=9, groups=[[0, 0, 1, 1, 2], [0], [], [0, 1, 1]], ties="group")
    data = PrefixData(split, TrainerConfig(batch_sequences=8), max_length=3)
    assert everything(data) == [(0, [0, 1], [2, 3]), (0, [1, 2, 3], [4]), (3, [6], [7, 8])]


def test_held_out_events_are_never_targets_or_inputs(encoded_split) -> None:
    split = encoded_split(HISTORIES, items=12, validation=[[9], [10], [], [11]], test=[[9], [9], [], [9]])
    seen = everything(PrefixData(split, TrainerConfig(), max_length=3))
    assert seen == everything(PrefixData(encoded_split(HISTORIES, items=12), TrainerConfig(), max_length=3))


@given(
    histories=st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=6).filter(
        lambda rows: max(map(len, rows)) > 1
    ),
    max_length=st.integers(1, 10),
)
def test_prefixes_by_definition(encoded_split, histories, max_length) -> None:
    data = PrefixData(encoded_split(histories, items=6), TrainerConfig(batch_sequences=4), max_length=max_length)
    expected = [
        (user, history[max(0, end - max_length) : end], [history[end]])
        for user, history in enumerate(histories)
        for end in range(1, len(history))
    ]
    assert everything(data) == sorted(expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_lengths_that_batches_are_planned_by_are_theirs(encoded_split, workers: int) -> None:
    data = PrefixData(encoded_split(HISTORIES, items=9), TrainerConfig(workers=workers), max_length=3)
    assert np.array_equal(data.train_dataloader().lengths, [1, 2, 3, 3, 1, 2])
