"""What a whole request through a served cascade takes: open load, so many requests a second, whatever comes back.

A log is generated, a cascade trained on it for one epoch (weights do not change what a request costs), and ``recascade
serve cascade`` started as a process of its own. Requests for random users come from this process at random moments
(Poisson); each one's time is counted from the moment it was due, so that a service that falls behind cannot hide it.
CPU time is the service's own, which other programs on the machine disturb less than the clock.

Run: python benchmarks/cascade_load.py [--items 10000] [--rate 20] [--seconds 60] [--stages sasrec hstu prm]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from recascade.data.synthetic import markov_log

SLOTS = ("retriever", "ranker", "reranker")
WARM_UP = 40


def recascade(*words: str | Path) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-m", "recascade.cli.main", *map(str, words)]


def start(folder: Path, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """The service and its address."""
    process = subprocess.Popen(
        recascade("serve", "cascade", folder, *options, "--port", "0"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.split("http://")[1].split()[0]


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """Asks one address, with a connection per thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._threads = local()

    def ask(self, path: str) -> Any:
        """The answer, which must be a good one."""
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = HTTPConnection(self.address, timeout=30)
        connection.request("GET", path)
        response = connection.getresponse()
        content = json.loads(response.read())
        assert response.status == 200, content
        return content


def main() -> None:
    """Train, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--stages", nargs=3, default=["sasrec", "hstu", "prm"])
    parser.add_argument("--serve", nargs="*", default=[], help="settings of the service, as serve.workers=4")
    parser.add_argument("--folder", type=Path, help="keep the log and the cascade here, and use them again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        log, out = folder / f"log-{arguments.items}", folder / "-".join([*arguments.stages, str(arguments.items)])
        if not log.exists():
            markov_log(log, users=arguments.users, items=arguments.items, mean_length=50.0, features=True, seed=0)
        stages = [f"{slot}={name}" for slot, name in zip(SLOTS, arguments.stages, strict=True)]
        quick = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.validate_every=0", "most_lists=500"]
        subprocess.run(recascade("cascade", "train", log, out, *stages, *quick, "evaluation.max_users=50"), check=True)
        measure(arguments, out)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Put the service under load."""
    process, address = start(folder, arguments.serve)
    try:
        client = Client(address)
        users = client.ask("/users")["users"]
        random = np.random.default_rng(0)
        for number in range(WARM_UP):
            client.ask(f"/recommend?user={users[number % len(users)]}")
        count = int(arguments.rate * arguments.seconds)
        due = time.perf_counter() + np.cumsum(random.exponential(1 / arguments.rate, count))
        chosen = random.integers(0, len(users), count)
        before = cpu_seconds(process.pid)

        def request(number: int) -> tuple[float, Any]:
            # An open loop: requests come when they are due, however long the answers before them take.
            time.sleep(max(0.0, due[number] - time.perf_counter()))
            answer = client.ask(f"/recommend?user={users[chosen[number]]}")
            return time.perf_counter() - due[number], answer

        with ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(request, range(count)))
        spent = cpu_seconds(process.pid) - before
    finally:
        process.terminate()
        process.wait()
    show(arguments, answers, spent)


def show(arguments: argparse.Namespace, answers: list[tuple[float, Any]], cpu: float) -> None:
    """The table."""
    whole = np.array([1000 * seconds for seconds, _ in answers])
    parts = {
        "whole request, at the client": whole,
        **{
            slot: np.array([answer["milliseconds"][slot] for _, answer in answers])
            for slot in (*SLOTS, "total")
            if slot in answers[0][1]["milliseconds"]
        },
    }
    degraded = sum(bool(answer["degraded"]) for _, answer in answers)
    load = os.getloadavg()[0]
    print(f"\n{' → '.join(arguments.stages)}, {arguments.items:,} items, {arguments.rate:g} requests a second")
    print("| | p50 ms | p99 ms |\n| --- | ---: | ---: |")
    for name, values in parts.items():
        p50, p99 = np.percentile(values, [50, 99])
        print(f"| {name} | {p50:.1f} | {p99:.1f} |")
    per_request = 1000 * cpu / len(answers)
    print(
        f"\n{len(answers):,} requests, {degraded / len(answers):.1%} degraded; {per_request:.1f} CPU ms of the service"
    )
    print(f"each; load average of the machine {load:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
