"""Real-model replay of one trace through full inference, an LRU prefix cache across requests, and the relay.

    python benchmarks/relaygr_replay.py throughput --output replay.jsonl
    python benchmarks/relaygr_replay.py length --output replay.jsonl
    python benchmarks/relaygr_replay.py short --output replay.jsonl

Every score is computed. The works of two lanes run one after the other in one thread, and a virtual clock passes by the
CPU time that each took, so that other programs on the machine delay nothing; the arms of one rate run right after each
other. Cells that the output file holds are not measured again.

A trace: requests arrive by a Poisson process; a share of them is a user's second or later visit, a few events after the
one before. The signal comes with the request's arrival; ranking comes after a log-normal slack,
at least 20 ms. SLO-compliant means that the 99th percentile of the time in the ranking stage, its queue included, over
the answers of all traces, is within the budget.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Any

import click
import numpy as np
import torch
from relaygr_trace import CANDIDATES, ITEMS, Request, replay, trace

from recascade_relaygr.engine.profile import measure_costs
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.requests import Sizes

ARMS = ("full", "lru", "relay")
LENGTHS = (*range(768, 1536, 128), *range(1536, 6144, 256))


@dataclass(frozen=True)
class Workload:
    """What all cells of a call share: the ranker with its costs, the traces, the budget in seconds."""

    name: str
    model: HSTURanker
    costs: Costs
    budget: float
    seeds: int
    requests: int
    seconds: float
    revisits: float
    slack: float

    def trace(self, rate: float, tokens: int, seed: int, **settings: float) -> list[Request]:
        """Requests of one trace: as many as were asked for, and as long."""
        count = max(self.requests, round(rate * self.seconds))
        return trace(rate, count, tokens, self.revisits, seed, slack=self.slack, **settings)


class Cells:
    """What was measured, one line of JSON for each cell."""

    def __init__(self, path: Path, workload: Workload) -> None:
        self.path = path
        self.workload = workload
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.found: dict[str, dict[str, Any]] = {}
        for line in lines:
            cell = json.loads(line)
            self.found[cell["name"]] = cell

    def measure(self, name: str, arm: str, asked: list[Request]) -> Any:
        """The cell of an arm on a trace, measured unless it is there."""
        name, budget = f"{self.workload.name} {name}", self.workload.budget
        if name not in self.found:
            begun = thread_time()
            answers, instance = replay(arm, self.workload.model, self.workload.costs, asked, budget)
            unanswered = len(asked) - len(answers)
            # Nobody has come back yet at the beginning, and nothing has been learnt.
            warm = asked[len(asked) // 4].time
            answers = [(each, outcome) for each, outcome in answers if each.time >= warm]
            served = np.array([outcome.served for _, outcome in answers]) * 1e3
            short = np.array([outcome.served for each, outcome in answers if each.events < 1024]) * 1e3
            paths = Counter(outcome.path for _, outcome in answers)
            cell = {
                "name": name,
                "arm": arm,
                "requests": len(asked),
                "unanswered": unanswered,
                "budget_ms": budget * 1e3,
                "p50_ms": float(np.percentile(served, 50)),
                "p99_ms": float(np.percentile(served, 99)),
                "short_p99_ms": float(np.percentile(short, 99)) if len(short) else None,
                "served_ms": [round(each, 3) for each in served.tolist()],
                "paths": {path: number / len(answers) for path, number in paths.items()},
                "events": float(np.mean([outcome.prefix_tokens for _, outcome in answers])),
                "fills": dict(instance.statistics.fills),
                "cpu_seconds": thread_time() - begun,
            }
            self.found[name] = cell
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cell) + "\n")
        return self.found[name]


@click.command()
@click.argument("what", type=click.Choice(["throughput", "length", "short"]))
@click.option("--output", type=click.Path(path_type=Path), default=Path("relaygr_replay.jsonl"), show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Traces.")
@click.option("--requests", default=200, show_default=True, help="Of each trace, at least.")
@click.option("--seconds", default=12.0, show_default=True, help="Of each trace, at least.")
@click.option("--tokens", default=2048, show_default=True, help="Events of a long history.")
@click.option("--revisits", default=0.6, show_default=True, help="Share of requests that are a later visit.")
@click.option("--rate", default=6.0, show_default=True, help="Requests per second, where the rate is fixed.")
@click.option("--budget-ms", default=50.0, show_default=True, help="Of the ranking stage.")
@click.option("--slack-ms", default=60.0, show_default=True, help="Median time from signal to ranking.")
@click.option("--dimension", default=64, show_default=True)
@click.option("--blocks", default=2, show_default=True)
def main(
    what: str,
    output: Path,
    seeds: int,
    requests: int,
    seconds: float,
    tokens: int,
    revisits: float,
    rate: float,
    budget_ms: float,
    slack_ms: float,
    dimension: int,
    blocks: int,
) -> None:
    """Measure what is missing and print a table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = HSTURanker(ITEMS, dimension=dimension, blocks=blocks, max_length=8192).eval()
    lengths = [0, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144]
    costs = measure_costs(model, ITEMS, lengths=lengths, candidates=[CANDIDATES], repeats=5, clock=thread_time)
    budget = budget_ms / 1e3
    for length in lengths:
        sizes = Sizes(length, 64, CANDIDATES)
        row = [costs.full(sizes), costs.rank(sizes), costs.prefill(length), costs.reload(length)]
        click.echo(
            f"{length:5d} events: "
            + "  ".join(
                f"{name} {each * 1e3:6.1f} ms"
                for name, each in zip(("full", "rank", "prefill", "reload"), row, strict=True)
            )
        )
    workload = Workload(
        name=f"{dimension}x{blocks} {revisits:g} {budget_ms:g} ms {slack_ms:g} ms {requests} {seconds:g} s",
        model=model,
        costs=costs,
        budget=budget,
        seeds=seeds,
        requests=requests,
        seconds=seconds,
        revisits=revisits,
        slack=slack_ms / 1e3,
    )
    cells = Cells(output, workload)
    if what == "throughput":
        _throughput(cells, workload, tokens)
    elif what == "length":
        _length(cells, workload, rate)
    else:
        _short(cells, workload, tokens, rate)


def _throughput(cells: Cells, workload: Workload, tokens: int) -> None:
    """Rates rise by a half until every arm has missed the budget twice."""
    best: dict[str, float] = dict.fromkeys(ARMS, 0.0)
    missed: Counter[str] = Counter()
    offered = 5.0
    while min(missed[arm] for arm in ARMS) < 2 and offered < 500:
        for arm in ARMS:
            if missed[arm] >= 2:
                continue
            found = []
            for seed in range(workload.seeds):
                asked = workload.trace(offered, tokens, seed)
                found.append(cells.measure(f"{arm} {tokens} at {offered:.2f} seed {seed}", arm, asked))
                _tell(f"{offered:6.1f}/s", found[-1])
            if _late(found):
                missed[arm] += 1
            else:
                best[arm] = offered
        offered *= 1.5
    for arm in ARMS:
        ratio = best[arm] / best["full"] if best["full"] else float("nan")
        click.echo(f"{arm:10s} {best[arm]:6.1f} requests/s within the budget, {ratio:.2f} x full inference")


def _length(cells: Cells, workload: Workload, rate: float) -> None:
    """Histories grow by a twelfth or so until every arm has missed the budget twice."""
    best: dict[str, int] = dict.fromkeys(ARMS, 0)
    missed: Counter[str] = Counter()
    for tokens in LENGTHS:
        for arm in ARMS:
            if missed[arm] >= 2:
                continue
            found = []
            for seed in range(workload.seeds):
                asked = workload.trace(rate, tokens, seed)
                found.append(cells.measure(f"{arm} {tokens} at {rate:.2f} seed {seed}", arm, asked))
                _tell(f"{tokens:5d} events", found[-1])
            late = _late(found)
            missed[arm] += late
            best[arm] = best[arm] if late else tokens
    for arm in ARMS:
        ratio = best[arm] / best["full"] if best["full"] else float("nan")
        click.echo(
            f"{arm:10s} {best[arm]:5d} events within the budget at {rate:g} requests/s, {ratio:.2f} x full inference"
        )


def _short(cells: Cells, workload: Workload, tokens: int, rate: float) -> None:
    for seed in range(workload.seeds):
        for arm in ("full", "relay"):
            asked = workload.trace(rate, tokens, seed, short_share=0.7)
            cell = cells.measure(f"short {arm} {tokens} at {rate:.2f} seed {seed}", arm, asked)
            short, everything = cell["short_p99_ms"], cell["p99_ms"]
            click.echo(f"seed {seed} {arm:6s} p99 of short requests {short:6.1f} ms, of all {everything:6.1f} ms")


def _late(cells: list[dict[str, Any]]) -> bool:
    """Whether the traces of one setting miss the budget together; prints their 99th percentile."""
    p99 = float(np.percentile(np.concatenate([cell["served_ms"] for cell in cells]), 99))
    late = p99 > cells[0]["budget_ms"] or any(cell["unanswered"] for cell in cells)
    click.echo(f"{'':>12s} {cells[0]['arm']:10s} p99 of all traces {p99:.1f} ms{' (misses)' if late else ''}")
    return late


def _tell(what: str, cell: dict[str, Any]) -> None:
    shares = "  ".join(f"{path} {share:.0%}" for path, share in sorted(cell["paths"].items()))
    click.echo(f"{what} {cell['arm']:10s} p50 {cell['p50_ms']:6.1f} p99 {cell['p99_ms']:7.1f} ms  {shares}")


if __name__ == "__main__":
    main()
