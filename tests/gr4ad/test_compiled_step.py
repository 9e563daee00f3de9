from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gr4ad_runs import Prepared, module_of
from no_looking import NoLooking
from torch import Tensor

from recascade.nn.packed import PackedLayout
from recascade_gr4ad.ad_batches import AdBatch


def loss_and_gradients(step: Callable[..., Tensor], batch: AdBatch, leaves: list[Tensor]) -> list[Tensor]:
    loss = step(batch, 0)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [loss.detach(), *(gradient for gradient in gradients if gradient is not None)]


def test_one_graph_serves_all_batches_and_changes_no_result(prepared: Prepared, tmp_path: Path) -> None:
    settings = {"model__layers": 2, "model__trunk_layers": 1, "model__context_sets": 1, "model__dropout": 0.0}
    module, ads, _ = module_of(prepared, tmp_path / "run", **settings)
    leaves = list(module.model.parameters())
    torch._dynamo.reset()
    compiled = torch.compile(module.training_step, fullgraph=True, dynamic=True, backend="aot_eager")
    random = np.random.default_rng(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for count in (5, 20, 4, 33):
            batch = ads.training_batch(random.permutation(len(ads.prefixes.windows.lengths))[:count])
            found = loss_and_gradients(compiled, batch, leaves)
            expected = loss_and_gradients(module.training_step, batch, leaves)
            assert len(found) > 20
            for result, right in zip(found, expected, strict=True):
                torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)


def test_nothing_in_the_step_of_an_accelerator_looks_at_data(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, ads, _ = module_of(prepared, tmp_path / "run", model__dropout=0.0)
    # The one exception: how many features the users of a batch have in all is known from the data alone.
    module.model.context_processor.user_features = None
    batch = ads.training_batch(np.arange(9))
    expected = module.training_step(batch, 0)
    monkeypatch.setattr(PackedLayout, "bounded", PackedLayout.rectangle)
    with NoLooking():
        found = module.training_step(batch, 0)
        torch.autograd.backward(found)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
