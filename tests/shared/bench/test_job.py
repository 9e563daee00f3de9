"""A run that two processes share, from its configuration to its result."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from recascade.bench.store import LISTS_FILE, METRICS_FILE, Run

SMALL = {
    "model.dimension": 8,
    "model.dropout": 0.0,
    "trainer.max_epochs": 1,
    "trainer.batch_sequences": 32,
    "trainer.tensorboard": False,
}


def test_run_on_two_devices_is_that_on_one(run_sweep) -> None:
    one, two = {**SMALL}, {**SMALL, "trainer.devices": 2, "trainer.strategy": "fsdp"}
    sweep, events = run_sweep(one, two, method="sasrec", processes=1)
    assert [event.kind for event in events] == ["started", "finished"] * 2, events
    alone, shared = (run.directory for run in sweep.runs)
    ours, theirs = load_file(shared / "weights.safetensors"), load_file(alone / "weights.safetensors")
    for name in theirs:
        # The gradient of the bias of all keys is rounding error, which Adam scales up to whole steps.
        if not name.endswith("key_value.bias"):
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0, msg=name)
    users = [pl.read_parquet(folder / METRICS_FILE) for folder in (shared, alone)]
    assert users[0]["user_id"].equals(users[1]["user_id"])
    assert users[0]["ndcg@10"].mean() == pytest.approx(users[1]["ndcg@10"].mean(), abs=1e-3)
    assert pl.read_parquet(shared / LISTS_FILE)["user_id"].equals(users[0]["user_id"])
    result, other = Run(shared).result, Run(alone).result
    assert result["cost"].keys() == other["cost"].keys() and result["cost"]["latency_ms"]["p50"] > 0
    assert result["cost"]["peak_memory_bytes"] > 0 and result["cost"]["epochs"] == 1


def test_a_refit_for_epochs_that_nobody_chose_is_refused(run_sweep) -> None:
    _, events = run_sweep({"trainer.refit": True})
    assert [event.kind for event in events] == ["started", "failed"]
    assert "'acme' does not say how many" in events[-1].problem
