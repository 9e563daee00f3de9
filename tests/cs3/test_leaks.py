"""Nothing derived from an event may be in anything that is read when it is scored or trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from online_streams import Batches, config, delayed, events, learner, predictions, with_labels

from recascade.data.event_batch import EventBatch
from recascade.evaluation.click_metrics import auc
from recascade_cs3.config import CS3Config
from recascade_cs3.learner import OnlineLearner, Predictions

ALL = ("cas", "cts", "cms")
VARIANTS = [(), ("cas",), ("cts",), ("cms",), ALL]


class LeakyLearner(OnlineLearner):
    """The bug that the tests are for: the batch's positives move the cross vectors before the batch is scored."""

    def tick(self, batch: EventBatch) -> Predictions:
        self.make_room(batch)
        users, items = torch.from_numpy(batch.users), torch.from_numpy(batch.items)
        with torch.no_grad():
            context = self.tables.histories.context(users)
            output = self.module.towers(context, items, self.tables.user_inputs(users), self.tables.item_inputs(items))
        assert self.tables.cross is not None
        self.tables.cross.write(batch.users, batch.items, batch.labels, output.user_vectors, output.item_vectors)
        return super().tick(batch)


def flip(event: int):
    def change(labels: np.ndarray) -> np.ndarray:
        labels = labels.copy()
        labels[event] = 1 - labels[event]
        return labels

    return change


@pytest.mark.parametrize("mechanisms", VARIANTS, ids="-".join)
@pytest.mark.parametrize("backbone", ["dssm", "transformer"])
def test_own_label_does_not_reach_own_score(mechanisms: tuple[str, ...], backbone: str) -> None:
    batches = events(320)
    event = 170
    before = predictions(learner(config(*mechanisms, backbone=backbone)), batches)
    after = predictions(learner(config(*mechanisms, backbone=backbone)), with_labels(batches, flip(event)))
    assert before[event] == after[event]
    # The whole batch was scored at once, so no event of it may know the label; later ones must.
    assert np.array_equal(before[:192], after[:192])
    assert not np.array_equal(before[192:], after[192:])


def test_the_leaky_order_is_found_by_the_own_label_test() -> None:
    batches = events(320)
    before = predictions(LeakyLearner(config("cts"), seed=0), batches)
    after = predictions(LeakyLearner(config("cts"), seed=0), with_labels(batches, flip(170)))
    assert before[170] != after[170]


@pytest.mark.parametrize("mechanisms", [("cms",), ALL], ids="-".join)
def test_own_pair_does_not_reach_own_score(mechanisms: tuple[str, ...]) -> None:
    """The ranker's hidden layer on an event may be anything: the event's score does not move, later ones do."""
    batches = events(320)

    class Disturbed(OnlineLearner):
        def _learn(self, learnt, forward):  # type: ignore[no-untyped-def]
            noise = torch.Generator().manual_seed(7)
            if learnt.offsets[0] <= 170 <= learnt.offsets[-1]:
                hidden = forward.ranked.hidden.detach()
                disturbed = torch.where(
                    torch.from_numpy(learnt.offsets == 170)[:, None], torch.randn(hidden.shape, generator=noise), hidden
                )
                forward = replace(forward, ranked=forward.ranked._replace(hidden=disturbed))
            super()._learn(learnt, forward)

    before = predictions(learner(config(*mechanisms)), batches)
    after = predictions(Disturbed(config(*mechanisms), seed=0), batches)
    assert np.array_equal(before[:192], after[:192])
    assert not np.array_equal(before[192:], after[192:])


@pytest.mark.parametrize("mechanisms", VARIANTS, ids="-".join)
def test_the_future_does_not_reach_the_past(mechanisms: tuple[str, ...]) -> None:
    batches = events(320)
    whole = predictions(learner(config(*mechanisms)), batches)
    cut = predictions(learner(config(*mechanisms)), batches[:6])
    assert np.array_equal(whole[: len(cut)], cut)


def shuffled(batches: Batches, seed: int) -> Batches:
    return with_labels(batches, lambda labels: np.random.default_rng(seed).permutation(labels))


def area(scores: np.ndarray, batches: Batches) -> tuple[float, float]:
    """AUC and its standard error under the hypothesis that scores say nothing (Hanley and McNeil, 1982)."""
    labels = np.concatenate([batch.labels for batch in batches]) > 0
    positives, negatives = labels.sum(), (~labels).sum()
    return auc(labels, scores.astype(np.float64)), float(
        np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    )


@pytest.mark.parametrize("mechanisms", VARIANTS, ids="-".join)
def test_shuffled_labels_cannot_be_predicted(mechanisms: tuple[str, ...]) -> None:
    batches = shuffled(events(6_000, users=300, items=100), seed=1)
    value, error = area(predictions(learner(config(*mechanisms)), batches), batches)
    assert abs(value - 0.5) < 3 * error


def test_the_leaky_order_predicts_shuffled_labels() -> None:
    """Keeps the test above honest: with the planted bug it must fail."""
    batches = shuffled(events(6_000, users=300, items=100), seed=1)
    value, error = area(predictions(LeakyLearner(config("cts"), seed=0), batches), batches)
    assert value > 0.5 + 3 * error


@pytest.mark.parametrize("seconds", [0, 500, 5_000])
@pytest.mark.parametrize("delay_batches", [0, 1, 5])
def test_no_label_is_used_before_it_is_known(seconds: int, delay_batches: int) -> None:
    batches = delayed(events(640), seconds)
    scored_at: dict[int, int] = {}
    trained: list[int] = []

    class Watched(OnlineLearner):
        def _learn(self, learnt, forward):  # type: ignore[no-untyped-def]
            assert (learnt.label_times <= self.watermark).all()
            assert (learnt.ticks <= self.ticks - delay_batches).all()
            trained.extend(learnt.offsets.tolist())
            super()._learn(learnt, forward)

    online = Watched(config(*ALL), seed=0, delay_batches=delay_batches)
    for batch in batches:
        online.tick(batch)
        for offset in range(batch.offset, batch.next_offset):
            assert offset not in scored_at
            scored_at[offset] = online.watermark
    waiting = online.waiting.offsets.tolist()
    # Every event is learnt from once, or still waits.
    assert sorted(trained + waiting) == list(range(640))
    assert len(waiting) >= min(640, seconds // 10)


def test_labels_that_come_late_change_only_what_is_scored_after_them() -> None:
    batches = delayed(events(320), 700)
    before = predictions(learner(config(*ALL)), batches)
    after = predictions(learner(config(*ALL)), with_labels(batches, flip(40)))
    # Event 40 lies at 400 seconds; its label is known at 1100, in the batch of events 96 to 127.
    assert np.array_equal(before[:128], after[:128])
    assert not np.array_equal(before[128:], after[128:])


def test_training_reads_the_stored_vectors_or_those_that_were_served() -> None:
    batches = delayed(events(640), 900)
    logged: CS3Config = config(*ALL)
    logged.tables.log_at_serve = True
    stored, served = predictions(learner(config(*ALL)), batches), predictions(learner(logged), batches)
    assert np.array_equal(stored[:96], served[:96])
    assert not np.array_equal(stored, served)
    # Without delay there is no difference between the two.
    prompt = events(320)
    assert np.array_equal(predictions(learner(config(*ALL)), prompt), predictions(learner(logged), prompt))
