"""The online learner: each event is scored, recorded, and only then learnt from, exactly once.

One tick, for a micro-batch of events in the order of their arrival:

    1  read the vectors of CTS and CMS and the histories as they are now
    2  score the events with the towers and the ranker; these predictions are the ones that count
    3  events whose labels are known by now: loss, gradient step
    4  CTS: positives move the cross vectors, by the outputs of step 3's forward pass
    5  CMS: all events move the cascade vectors, by the ranker's hidden layer in that same forward pass
    6  positives join the histories; touched users and items are marked dirty

so that nothing derived from an event is in anything that is read when it is scored or trained on. The order is the
specification's; that scoring and training share one forward pass where no label is late is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import TrainingError
from recascade.training.growing import grow_embeddings
from recascade_cs3.config import CS3Config
from recascade_cs3.module import CS3Module, RankerOutput, TowerOutput
from recascade_cs3.optimizers import Optimizers
from recascade_cs3.pending import Events, take_known
from recascade_cs3.tables import Tables

if TYPE_CHECKING:
    from recascade.data.event_batch import EventBatch
    from recascade.data.features import FeatureTable

# Tables grow by half, so that a growing vocabulary costs a constant share.
_LEAST_ROOM = 1024
_GROWTH = 1.5


@dataclass(frozen=True)
class Predictions:
    """Of the n events of one micro-batch, made before anything was learnt from them.

    Attributes:
        probabilities: float32 ``[n]``, the towers'.
        ranker_probabilities: float32 ``[n]``, the ranker's; None without one.
    """

    probabilities: NDArray[np.float32]
    ranker_probabilities: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Forward:
    """One forward pass over n events, with what it read."""

    context: Context
    items: Tensor
    towers: TowerOutput
    ranked: RankerOutput | None


class OnlineLearner:
    """Everything that the stream changes: weights, optimiser state, tables, waiting events.

    Args:
        config: of the method.
        seed: every random choice derives from it.
        delay_batches: micro-batches that a label waits at least after its event was scored.
        users: users known from the start.
        items: items known from the start.
        user_features: of the first rows of users, or None.
        item_features: of the first rows of items, or None.

    Attributes:
        scored: events scored so far.
        ticks: micro-batches so far.
        steps: gradient steps so far; the version of the weights.
        watermark: the time that the stream has reached, seconds.
        dirty_items: bool ``[items]``, items whose tables changed since somebody cleared the mark.
        dirty_users: bool ``[users]``, likewise.
    """

    def __init__(
        self,
        config: CS3Config,
        *,
        seed: int,
        delay_batches: int = 0,
        users: int = 0,
        items: int = 0,
        user_features: FeatureTable | None = None,
        item_features: FeatureTable | None = None,
    ) -> None:
        config.check()
        self.config = config
        self.seed = seed
        self.delay_batches = delay_batches
        torch.manual_seed(seed)
        # Rows are grown, not constructed, so that an identifier's first vector does not depend on when it came.
        self.module = CS3Module(config, user_features=user_features, item_features=item_features)
        self.optimizers = Optimizers(self.module, config)
        backbone = self.module.backbone
        self.tables = Tables(config, backbone.user_width, backbone.item_width, self.module.history_length, seed)
        self.waiting = Events.none()
        self.scored = self.ticks = self.steps = 0
        self.watermark = int(np.iinfo(np.int64).min)
        self.dirty_users = np.zeros(0, dtype=np.bool_)
        self.dirty_items = np.zeros(0, dtype=np.bool_)
        self.grow(users, items)

    def tick(self, batch: EventBatch) -> Predictions:
        """Score one micro-batch, then learn from all events whose labels are known.

        Raises:
            TrainingError: a loss is not a number; weights and tables are those before the step.
        """
        if not len(batch.users):
            return Predictions(np.zeros(0, np.float32), None)
        self.make_room(batch)
        arrived = Events.arrived(batch, self.ticks)
        self.watermark = max(self.watermark, int(batch.timestamps.max()))
        at_once = not self.delay_batches and not len(self.waiting) and arrived.known_in_order(self.watermark)
        extra = self._extra(arrived)
        with torch.set_grad_enabled(at_once):
            forward = self._forward(arrived, extra)
        predictions = _predictions(forward)
        if at_once:
            self._learn(arrived, forward)
        else:
            self._wait_and_learn(arrived, extra)
        self.ticks += 1
        self.scored += len(arrived)
        return predictions

    def start_pass(self) -> None:
        """Forget tables and waiting events, but not the weights: the same events come again."""
        self.tables.reset()
        self.waiting = Events.none()
        self.watermark = int(np.iinfo(np.int64).min)

    def grow(self, users: int, items: int) -> None:
        """Give so many users and items rows of their own. Never shrinks."""
        grow_embeddings(self.module, self.optimizers.sparse, users=users, items=items, seed=self.seed)
        self.tables.grow(users, items)
        self.dirty_users = _lengthened(self.dirty_users, users)
        self.dirty_items = _lengthened(self.dirty_items, items)

    def make_room(self, batch: EventBatch) -> None:
        """Give the users and items of a batch rows of their own, with some to spare; ``tick`` does so by itself."""
        users, items = (int(rows.max(initial=-1)) + 1 for rows in (batch.users, batch.items))
        room_users, room_items = len(self.dirty_users), len(self.dirty_items)
        if users > room_users or items > room_items:
            self.grow(_room(users, room_users), _room(items, room_items))

    def _wait_and_learn(self, arrived: Events, extra: tuple[Tensor | None, Tensor | None]) -> None:
        if self.config.tables.log_at_serve:
            arrived = replace(arrived, served=np.concatenate([_array(block, len(arrived)) for block in extra], axis=1))
        waiting = self.waiting.followed_by(arrived)
        known, self.waiting = take_known(waiting, self.watermark, self.ticks - self.delay_batches)
        for start in range(0, len(known), self.config.batch):
            events = known.chosen(slice(start, start + self.config.batch))
            self._learn(events, self._forward(events, self._extra(events)))

    def _extra(self, events: Events) -> tuple[Tensor | None, Tensor | None]:
        """What the towers read beside their own inputs: as stored now, or as it was when the events were scored."""
        tables = self.tables
        if events.served.shape[1]:
            served = torch.from_numpy(events.served)
            return served[:, : tables.user_width], served[:, tables.user_width :]
        return tables.user_inputs(torch.from_numpy(events.users)), tables.item_inputs(torch.from_numpy(events.items))

    def _forward(self, events: Events, extra: tuple[Tensor | None, Tensor | None]) -> _Forward:
        items = torch.from_numpy(events.items)
        context = self.tables.histories.context(torch.from_numpy(events.users), torch.from_numpy(events.timestamps))
        towers = self.module.towers(context, items, *extra)
        return _Forward(context, items, towers, self.module.rank(context, items))

    def _learn(self, events: Events, forward: _Forward) -> None:
        self._step(events, forward)
        tables, config = self.tables, self.config
        if not 0 < config.tables.freeze_after <= self.scored:
            if tables.cross is not None:
                vectors = forward.towers.user_vectors, forward.towers.item_vectors
                tables.cross.write(events.users, events.items, events.labels, *vectors)
            if tables.cascade is not None and forward.ranked is not None:
                tables.cascade.write(events.users, events.items, forward.ranked.hidden)
            self.dirty_users[events.users] = True
            self.dirty_items[events.items] = True
        tables.histories.append(events.users, events.items, events.timestamps, events.labels)
        tables.count(events.items, events.labels)

    def _step(self, events: Events, forward: _Forward) -> None:
        softmax = self.config.loss == "sampled_softmax"
        loss = self.module.loss(
            forward.context,
            forward.items,
            torch.from_numpy(events.labels),
            forward.towers,
            forward.ranked,
            self.tables.log_popularity(forward.items) if softmax else None,
        )
        value = loss.item()
        if value != value:
            raise TrainingError(
                f"The loss at event {int(events.offsets[0])} of the stream is not a number (model.learning_rate is "
                f"{self.config.learning_rate}); the state is that before this step. Lower the learning rate and start "
                "from the last checkpoint."
            )
        self.optimizers.step(loss)
        self.steps += 1


def _predictions(forward: _Forward) -> Predictions:
    ranked = forward.ranked
    return Predictions(
        torch.sigmoid(forward.towers.logits.detach()).numpy(),
        None if ranked is None else torch.sigmoid(ranked.logits.detach()).numpy(),
    )


def _array(block: Tensor | None, rows: int) -> NDArray[np.float32]:
    return np.zeros((rows, 0), dtype=np.float32) if block is None else block.numpy()


def _room(needed: int, present: int) -> int:
    return present if needed <= present else max(needed, int(present * _GROWTH), _LEAST_ROOM)


def _lengthened(marks: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    return np.concatenate([marks, np.zeros(max(count - len(marks), 0), dtype=np.bool_)])
