from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import lightning.pytorch as L
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.loader import ResumableLoader, evaluation_loader
from recascade.errors import DataError, TrainingError

LENGTHS = np.random.default_rng(0).integers(1, 30, 100)


@dataclass
class Settings:
    batch_sequences: int = 7
    batch_tokens: int = 90
    bucket: int = 3
    validation_users: int = 0
    workers: int = 0


def loader(*, seed: int = 1, lengths=LENGTHS, **keywords) -> ResumableLoader[list[int]]:
    places = {name: keywords.pop(name) for name in ("rank", "world_size") if name in keywords}
    return ResumableLoader(np.ndarray.tolist, lengths, Settings(**keywords), seed=seed, **places)


def epochs(batches: ResumableLoader[list[int]], first: int, last: int) -> list[list[int]]:
    result = []
    for epoch in range(first, last + 1):
        batches.set_epoch(epoch)
        result += list(batches)
    return result


@given(st.integers(0, 50))
@settings(max_examples=30)
def test_state_continues_with_the_next_batch(stop) -> None:
    whole = loader()
    expected = epochs(whole, 0, 2)
    stopped = loader()
    seen = []
    for epoch in range(3):
        stopped.set_epoch(epoch)
        for batch in stopped:
            seen.append(batch)
            if len(seen) == stop + 1:
                break
        else:
            continue
        break
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    seen += epochs(resumed, stopped.epoch, 2)
    assert seen == expected


def test_state_after_the_last_batch_leads_to_the_next_epoch() -> None:
    batches = loader()
    iterator = iter(batches)
    for _ in range(len(batches)):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(batches.state_dict())
    resumed.set_epoch(1)
    assert list(resumed) == epochs(loader(), 1, 1)


def test_length_is_the_number_of_batches_in_every_epoch() -> None:
    batches = loader()
    assert {len(epochs(batches, epoch, epoch)) for epoch in range(5)} == {len(batches)}


def test_worker_processes_keep_the_order_and_the_place() -> None:
    with_workers = loader(workers=2)
    assert epochs(with_workers, 0, 0) == epochs(loader(), 0, 0)
    iterator = iter(with_workers)
    next(iterator)
    # The workers are ahead of what was handed out; the state is not.
    assert with_workers.state_dict()["index"] == 1


def test_ranks_share_an_epoch_without_overlap() -> None:
    shares = [list(loader(rank=rank, world_size=3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for batch in share for row in batch]
    assert sorted(rows) == list(range(len(LENGTHS)))


def test_state_goes_on_with_another_number_of_ranks() -> None:
    alone = loader()
    batches = epochs(alone, 0, 0)
    begun = loader()
    iterator = iter(begun)
    for _ in range(3):
        next(iterator)
    shares = []
    for rank in range(2):
        resumed = loader(rank=rank, world_size=2)
        resumed.load_state_dict(begun.state_dict())
        shares.append(list(resumed))
    together = [first + second for first, second in zip(*shares, strict=True)]
    assert together == batches[3:]


def test_what_a_stage_fetches_ahead_is_not_counted() -> None:
    def one_ahead(batches):
        ahead = next(batches)
        for batch in batches:
            yield ahead
            ahead = batch
        yield ahead

    staged = loader()
    staged.stage = one_ahead
    assert epochs(staged, 0, 1) == epochs(loader(), 0, 1)
    iterator = iter(staged)
    next(iterator)
    assert staged.state_dict()["index"] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed was 1 and is now 2"),
        ({"batch_sequences": 8}, "batch_sequences was 7 and is now 8"),
        ({"lengths": LENGTHS[:-1]}, "sequences was 100 and is now 99"),
    ],
)
def test_state_of_another_run_is_refused(change, named) -> None:
    with pytest.raises(TrainingError, match=named):
        loader(**change).load_state_dict(loader().state_dict())


def test_fewer_validation_rows_than_ranks_are_refused() -> None:
    data_module = L.LightningDataModule()
    data_module.trainer = SimpleNamespace(global_rank=0, world_size=3)
    assert len(evaluation_loader(np.ndarray.tolist, np.arange(3), 2, data_module, 0)) == 1
    with pytest.raises(DataError, match="2 validation rows for 3 training processes"):
        evaluation_loader(np.ndarray.tolist, np.arange(2), 2, data_module, 0)
