"""How well RelayGR's simulation foretells the real ranker: the same requests, computed and drawn from tables.

One trace is run at each of three loads with a device that computes every score in one thread and lets virtual time
pass by the CPU time that it took, and simulated twice: with durations drawn from tables that were measured right before
and right after it, as ``recascade relaygr profile`` does (``foretold``), and with the scatter of the computed run
around the tables (``explained``). Where only the latter agrees, it is not the simulation that errs: the machine was
slower or faster during the run than around it.

    python benchmarks/relaygr_fidelity.py --output fidelity.jsonl

Cells that the output file holds are not measured again. At the end it judges what was foretold: median, 99th percentile
and busy share within 15 % in every cell, or it exits with status 1. Cells that were measured while other programs kept
the host busy are not judged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import click
import torch

from recascade_relaygr.engine.history import RankInput
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.relay.device import Device, Work
from recascade_relaygr.relay.requests import Sizes
from recascade_relaygr.relay.tabulated_device import TabulatedDevice
from recascade_relaygr.run_folder import request_of
from recascade_relaygr.simulation.answers import Objective
from recascade_relaygr.simulation.arms import ARMS
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.cost_tables import KINDS, durations_of
from recascade_relaygr.simulation.search import Timing, try_setting
from recascade_relaygr.simulation.setting import Setting
from recascade_relaygr.study.cells import compose
from recascade_relaygr.study.profile import measure_durations

ITEMS, CANDIDATES, PAGE, TOKENS = 10_000, 128, 64, 2048
ARM_NAMES = ("full", "relay")
LOADS = (0.4, 0.6, 0.8)
WITHIN = 0.15
# Runnable programs per core, this one left out, above which durations are not those of the tables any more.
IDLE = 0.2


class ComputingDevice:
    """Computes the work of a simulated request on random events, and takes the CPU time of that."""

    def __init__(self, works: TorchWorks, table: TabulatedDevice, ratios: list[float]) -> None:
        self.works = works
        self.table = table
        self.ratios = ratios
        generator = torch.Generator().manual_seed(0)
        self._items = torch.randint(ITEMS, (TOKENS + PAGE,), generator=generator).tolist()
        self._candidates = torch.randint(ITEMS, (1, CANDIDATES), generator=generator)
        whole = Work("copy", Sizes(TOKENS, 0, 0), 0.0, tuple(range(TOKENS // PAGE)), end=TOKENS)
        self._copy = works.compute(whole)

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Compute at once, and tell when as much time has passed."""
        payload: Any = self._copy if work.kind == "reload" else self._input(work)
        begun = thread_time()
        result = self.works.compute(replace(work, payload=payload))
        seconds = thread_time() - begun
        # The copy itself is not needed again: all users have the same events here.
        kept = "copied" if work.kind == "copy" else result
        if self.table.seconds(work) > 0:
            self.ratios.append(seconds / self.table.seconds(work))
        self.table.clock.call_at(self.table.clock.time() + seconds, done, kept, None, seconds)

    def _input(self, work: Work) -> RankInput:
        recent = 0 if work.kind == "prefill" else work.sizes.recent
        events = self._items[: work.sizes.prefix + recent]
        return RankInput(request_of(events, list(range(len(events)))), work.sizes.prefix, self._candidates)


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seconds", default=30.0, show_default=True, help="Virtual seconds of each trace.")
@click.option("--budget-ms", default=80.0, show_default=True, help="Of the ranking stage.")
@click.option("--sweeps", default=15, show_default=True, help="Samples of each duration, before a run and after it.")
@click.option("--seeds", default=1, show_default=True, help="Traces of each load.")
def command(output: Path, seconds: float, budget_ms: float, sweeps: int, seeds: int) -> None:
    """Print, for each arm and load, what computing took, what the simulation foretold and what it explains."""
    torch.set_num_threads(1)
    model = HSTURanker(ITEMS, dimension=64, blocks=2, max_length=TOKENS + 2 * PAGE).eval()
    overrides = {"relay.rank_budget_ms": budget_ms, "relay.cache.page_tokens": PAGE, "relay.degrade": False}
    _, _, relay = compose(overrides)
    layers, width = model.state_shape
    pages = int(relay.cache.capacity_mib * (1 << 20)) // (layers * width * 4 * PAGE)

    def computing(device: Device, ratios: list[float]) -> Device:
        assert isinstance(device, TabulatedDevice)
        memory = PrefixMemory(layers, width, pages, PAGE)
        memory.states.zero_()
        return ComputingDevice(TorchWorks(model, memory), device, ratios)

    def profile() -> dict[str, Any]:
        return measure_durations(model, ITEMS, candidates=(CANDIDATES,), page_tokens=PAGE, sweeps=sweeps, device="cpu")

    known = {_key(row): row for row in map(json.loads, output.read_text().splitlines())} if output.exists() else {}
    lanes = relay.executor.lanes
    for name in ARM_NAMES:
        for load in LOADS:
            for seed in range(seeds):
                row: dict[str, Any] = {"arm": name, "load": load, "seed": seed}
                if _key(row) not in known:
                    before = profile()
                    durations = durations_of(before)
                    rate = load * lanes / durations.costs.full_table.seconds(TOKENS, CANDIDATES)
                    workload = WorkloadConfig(rate=rate, prefix_tokens=TOKENS, gap_seconds=5.0)
                    setting = Setting(ARMS[name], relay, durations, recent_tokens=PAGE - 1, candidates=CANDIDATES)
                    ratios: list[float] = []
                    really = replace(setting, wrap=partial(computing, ratios=ratios))
                    row["computed"] = _figures(really, workload, seconds, seed)
                    # What the relay believes is what it believed while computing; what it takes is known from both.
                    around = replace(durations_of(_joined(before, profile())), predicted=durations.predicted)
                    row["foretold"] = _figures(replace(setting, durations=around), workload, seconds, seed)
                    own = replace(setting, durations=replace(durations, factors=ratios))
                    row["explained"] = _figures(own, workload, seconds, seed)
                    row["others"] = max(os.getloadavg()[0] - 1, 0) / (os.cpu_count() or 1)
                    with output.open("a") as lines:
                        lines.write(json.dumps(row) + "\n")
                    known[_key(row)] = row
                _print(known[_key(row)])
    sys.exit(_judge(list(known.values())))


def _joined(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """One record with the samples of two."""
    seconds = {
        kind: [
            [one + other for one, other in zip(row, more, strict=True)]
            for row, more in zip(before["seconds"][kind], after["seconds"][kind], strict=True)
        ]
        for kind in KINDS
    }
    return before | {"seconds": seconds}


def _figures(setting: Setting, workload: WorkloadConfig, seconds: float, seed: int) -> dict[str, float]:
    trial = try_setting(setting, workload, Objective(), Timing(2.0, seconds), seed)
    assert trial.summary is not None
    cluster = trial.simulation.cluster
    executor = cluster.instances["instance-0"].executor
    time = cluster.clock.time() * executor.lanes
    return {
        "p50": trial.summary.rank_p50,
        "p99": trial.summary.rank_p99,
        "busy": (executor.rank_seconds + executor.fill_seconds) / time,
        "relay": sum(trial.summary.paths[path] for path in ("relay", "relay_joined", "relay_reload")),
    }


def _judge(rows: list[dict[str, Any]]) -> int:
    """Tell whether what was foretold came true; the exit status."""
    judged = [row for row in rows if row["others"] <= IDLE]
    missed = [
        f"{row['arm']} at {row['load']:.1f}, {name}: {row['foretold'][name] / row['computed'][name] - 1:+.0%}"
        for row in judged
        for name in ("p50", "p99", "busy")
        if abs(row["foretold"][name] / row["computed"][name] - 1) > WITHIN
    ]
    click.echo(
        f"{len(judged)} of {len(rows)} cells were measured on an idle host and are judged"
        + (f"; not foretold within {WITHIN:.0%}: {'; '.join(missed)}." if missed else ".")
        + ("" if judged else " Run it where nothing else runs, with another output file.")
    )
    return int(bool(missed))


def _key(row: dict[str, Any]) -> tuple[str, float, int]:
    return row["arm"], row["load"], row["seed"]


def _print(row: dict[str, Any]) -> None:
    words = [f"{row['arm']:6s} load {row['load']:.1f} seed {row['seed']}"]
    for name, unit in (("p50", 1e3), ("p99", 1e3), ("busy", 1e2), ("relay", 1e2)):
        computed = row["computed"][name]
        told = [f"{row[kind][name] * unit:.1f}" for kind in ("foretold", "explained")]
        errors = [f"{row[kind][name] / computed - 1:+.0%}" if computed else "–" for kind in ("foretold", "explained")]
        words.append(f"{name} {computed * unit:.1f}: {told[0]} ({errors[0]}), {told[1]} ({errors[1]})")
    click.echo("   ".join(words))


if __name__ == "__main__":
    command()
