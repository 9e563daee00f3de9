from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch, NextItemData
from recascade.errors import ConfigurationError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.next_item import InnerProductRetriever
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule
from recascade.training.retrieval_validation import parse_monitor

BASKETS = NextItemBatch(
    Context(
        users=torch.tensor([0, 1]),
        items=torch.tensor([3, 4, 5, 6, 7]),
        timestamps=torch.zeros(5, dtype=torch.int64),
        offsets=torch.tensor([0, 3, 5]),
    ),
    positions=torch.tensor([0, 2, 4]),
    targets=torch.tensor([4, 9, 10, 11]),
    owners=torch.tensor([0, 1, 1, 2]),
)


@pytest.fixture
def make(small_fit):
    def module(loss: LossConfig, **trainer) -> NextItemModule:
        torch.manual_seed(0)
        model = small_fit.TinyModel().double().eval()
        return NextItemModule(model, small_fit.small_split(), loss, TrainerConfig(**trainer)).double()

    return module


def scores(module: NextItemModule, batch: NextItemBatch) -> torch.Tensor:
    """[N, I], one row per target, computed the long way."""
    states = module.model.states(batch.context)[batch.positions]
    owners = torch.arange(len(states)) if batch.owners is None else batch.owners
    return states[owners] @ module.model.item_vectors().T


def single_targets() -> NextItemBatch:
    return NextItemBatch(BASKETS.context, torch.arange(5), torch.tensor([4, 5, 9, 7, 0]))


@pytest.mark.parametrize("batch", [BASKETS, single_targets()], ids=["baskets", "single"])
def test_full_softmax_is_cross_entropy_over_the_catalogue(make, batch) -> None:
    module = make(LossConfig("full_softmax", temperature=0.5))
    expected = cross_entropy(scores(module, batch) / 0.5, batch.targets)
    torch.testing.assert_close(module.training_step(batch, 0), expected)


@pytest.mark.parametrize("batch", [BASKETS, single_targets()], ids=["baskets", "single"])
@pytest.mark.parametrize("sharing", ["batch", "block", "position"])
@pytest.mark.parametrize(("exponent", "log_q"), [(0.0, True), (0.7, True), (0.7, False)])
def test_sampled_softmax_compares_with_the_drawn_items(make, batch, sharing, exponent, log_q) -> None:
    loss = LossConfig(
        "sampled_softmax", negatives=30, sharing=sharing, block=3, popularity_exponent=exponent, log_q=log_q
    )
    module = make(loss)
    torch.manual_seed(5)
    value = module.training_step(batch, 0)
    torch.manual_seed(5)
    count = len(batch.targets)
    blocks = {"batch": 1, "block": -(-count // 3), "position": count}[sharing]
    drawn = module.negatives.draw((blocks, 30)).repeat_interleave(-(-count // blocks), 0)[:count]
    logits = scores(module, batch)
    if log_q:
        logits = logits - module.negatives.log_q
    negatives = logits.gather(1, drawn).masked_fill(drawn == batch.targets[:, None], -torch.inf)
    positives = logits.gather(1, batch.targets[:, None])
    assert (drawn == batch.targets[:, None]).any(), "no collision was drawn, so nothing is tested of them"
    expected = cross_entropy(torch.cat([positives, negatives], 1), torch.zeros(len(positives), dtype=torch.int64))
    torch.testing.assert_close(value, expected)


def test_binary_cross_entropy_with_one_negative_is_the_published_loss(make) -> None:
    module = make(LossConfig("binary_cross_entropy", negatives=1, sharing="position"))
    batch = single_targets()
    torch.manual_seed(1)
    value = module.training_step(batch, 0)
    torch.manual_seed(1)
    drawn = module.negatives.draw((5, 1))[:, 0]
    logits = scores(module, batch)
    rows = torch.arange(5)
    positive, negative = logits[rows, batch.targets], logits[rows, drawn]
    counted = (drawn != batch.targets).double()
    expected = binary_cross_entropy_with_logits(positive, torch.ones(5).double(), reduction="none")
    expected += counted * binary_cross_entropy_with_logits(negative, torch.zeros(5).double(), reduction="none")
    torch.testing.assert_close(value, expected.mean())


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("monitor", ["ndcg@10", "hit_rate@3"])
def test_monitor_is_what_the_evaluator_measures(small_fit, tmp_path, monitor, exclude_seen) -> None:
    made = partial(NextItemModule, exclude_seen=exclude_seen)
    result, module = small_fit.run_fit(tmp_path, max_epochs=1, monitor=monitor, module_class=made)
    retriever = InnerProductRetriever(module.model, torch.ones(small_fit.ITEMS))
    name, cutoff = parse_monitor(monitor)
    config = EvaluationConfig(cutoffs=[cutoff], metrics=[name], exclude_seen=exclude_seen)
    measured = evaluate(retriever, small_fit.small_split(), "validation", config)
    # Lightning keeps logged values in float32.
    assert result.best_value == pytest.approx(measured.summary[monitor], abs=1e-7)


def test_gradients_reach_every_parameter(small_fit, make) -> None:
    module = make(LossConfig("full_softmax"))
    data = NextItemData(small_fit.small_split(), TrainerConfig(), max_length=10)
    module.training_step(next(iter(data.train_dataloader())), 0).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.model.parameters())


@pytest.mark.parametrize("monitor", ["ndcg", "ndcg@", "ndcg@0", "ndcg@ten", "loss"])
def test_monitor_without_a_list_length_is_refused(monitor) -> None:
    with pytest.raises(ConfigurationError, match="it must be a metric and a list length"):
        parse_monitor(monitor)


def test_unknown_monitor_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'ndcg'"):
        parse_monitor("ndgc@10")
