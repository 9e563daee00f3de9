"""A sweep of 24 runs on a Ray cluster of two machines, killed at random three times, beside the same sweep undisturbed.

The two machines are two Ray nodes with a core each on this machine; their head computes nothing. In an order and at
moments that the seed decides, a process that computes a run is killed, a whole machine, and the command itself, which
is then given again. Afterwards the local runner computes the same 24 runs, and the tables are compared number by
number.

Needs Ray (``pip install 'recascade[ray]'``), Linux, two cores, and some ten minutes. A finished comparison is printed
again without computing; an interrupted one begins anew in another folder.

    python benchmarks/ray_sweep.py --output runs/ray-sweep
    python benchmarks/ray_sweep.py --data ml-100k --epochs 5 --output runs/ray-sweep-ml-100k
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

AXES = ("model.dropout=0.1,0.3", "model.heads=1,2", "trainer.learning_rate=0.001,0.003")
SEEDS = 3
RUNS = 24
KILLS = ("a run's process", "a machine", "the command")
# After how many finished runs each of the three kills may fall.
MOMENTS = ((2, 6), (8, 13), (15, 20))


class TwoMachines:
    """The cluster."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._small = {"object_store_memory": 80 << 20}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **self._small})
        self.address: str = self._cluster.address
        self._machines = [self._cluster.add_node(num_cpus=1, **self._small) for _ in range(2)]

    def kill_machine(self, chance: random.Random) -> list[str]:
        """End a machine without a word, and bring another in its place; the runs on it."""
        lost = chance.choice(self._machines)
        runs = [run for _, run in self._working(lost)]
        self._cluster.remove_node(lost, allow_graceful=False)
        self._machines.remove(lost)
        self._machines.append(self._cluster.add_node(num_cpus=1, **self._small))
        return runs

    def kill_process(self, chance: random.Random) -> list[str]:
        """End a worker; the run that it has, or nothing where all are idle."""
        working = [found for machine in self._machines for found in self._working(machine)]
        if not working:
            return []
        worker, run = chance.choice(working)
        os.kill(worker, signal.SIGKILL)
        return [run]

    def working(self) -> list[str]:
        """The runs under way."""
        return [run for machine in self._machines for _, run in self._working(machine)]

    def shut_down(self) -> None:
        """End all of it."""
        self._cluster.shutdown()

    @staticmethod
    def _working(machine: Any) -> list[tuple[int, str]]:
        """Process and run of the busy workers of a machine, which are children of its raylet."""
        raylet = machine.all_processes["raylet"][0].process.pid
        found = []
        for entry in Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
                title = (entry / "cmdline").read_text().strip("\0 ") if parent == raylet else ""
            except OSError:
                continue
            if title.startswith("ray::sasrec"):
                found.append((int(entry.name), title.removeprefix("ray::")))
        return found


def sweep(options: argparse.Namespace, output: Path, *how: str) -> list[str]:
    """The command of the sweep."""
    program = [sys.executable, "-m", "recascade.cli.main", "ablate", "sasrec", *AXES]
    settings = [f"trainer.max_epochs={options.epochs}", "trainer.patience=0"]
    return [*program, *settings, "--data", options.data, "--seeds", str(SEEDS), "--output", str(output), *how]


def disturbed(options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Compute the sweep on the cluster while it is killed three times; tell what happened."""
    chance = random.Random(options.seed)
    kinds = chance.sample(KILLS, len(KILLS))
    moments = [chance.randint(*moment) for moment in MOMENTS]
    cluster = TwoMachines()
    log = (options.output / "command.txt").open("w", encoding="utf-8")
    command = sweep(options, output, "--ray-address", cluster.address)
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=log, stderr=log)
    first_seen: dict[str, int] = {}
    kills: list[dict[str, Any]] = []
    try:
        while process.poll() is None or len(kills) < len(KILLS):
            first_seen = finished(output) | first_seen
            if len(kills) < len(KILLS) and len(first_seen) >= moments[len(kills)]:
                # At a random moment within a run, not right after the end of one.
                time.sleep(chance.uniform(0.5, options.spread))
                kind = kinds[len(kills)]
                before = finished(output)
                first_seen = before | first_seen
                if kind == "the command":
                    runs = cluster.working()
                    process.kill()
                    process.wait()
                    process = subprocess.Popen(command, stdout=log, stderr=log)
                elif kind == "a machine":
                    runs = cluster.kill_machine(chance)
                elif not (runs := cluster.kill_process(chance)):
                    continue
                hit = [f"{run} after {epochs(output, run)} epochs" for run in runs if not done(output, run)]
                second = round(time.monotonic() - begin)
                kills.append({"second": second, "kind": kind, "hit": hit, "finished": len(before)})
                print(sentence(kills[-1]), flush=True)
            elif process.poll() is not None:
                raise SystemExit(f"The sweep ended before it was killed three times; see {options.output}/command.txt.")
            # The sweep is another command: that one of its runs has ended is only to be seen in its folder.
            time.sleep(0.1)
        first_seen = finished(output) | first_seen
    finally:
        process.kill()
        log.close()
        cluster.shut_down()
    told = (options.output / "command.txt").read_text(encoding="utf-8").splitlines()
    return {
        "status": process.returncode,
        "seconds": round(time.monotonic() - begin),
        "kills": kills,
        "lost": [line for line in told if line.startswith("lost")],
        "computed_again": [name for name, when in finished(output).items() if when != first_seen[name]],
    }


def sentence(kill: dict[str, Any]) -> str:
    """One kill as a line."""
    hit = ", ".join(kill["hit"]) or "no run seen on it"
    return f"{kill['second']:>5} s, {kill['finished']:>2} finished: killed {kill['kind']}: {hit}"


def done(output: Path, run: str) -> bool:
    """Whether a run, named as Ray shows it, has its result."""
    return any(output.glob(f"*/{run.replace(' ', '/')}/result.json"))


def epochs(output: Path, run: str) -> int:
    """Epochs that the curves of a run have."""
    curves = [path.read_text(encoding="utf-8") for path in output.glob(f"*/{run.replace(' ', '/')}/curves.csv")]
    last = curves[0].splitlines()[-1].partition(",")[0] if curves else ""
    return int(last) if last.isdigit() else 0


def finished(output: Path) -> dict[str, int]:
    """When each finished run of a folder wrote its result, in nanoseconds."""
    return {str(path.parent): path.stat().st_mtime_ns for path in output.glob("*/*/*/*/result.json")}


def table(output: Path) -> dict[str, dict[str, Any]]:
    """All figures of quality of the finished runs, by their place in the folder."""
    rows = {}
    for path in sorted(output.glob("*/*/*/*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        rows[str(path.parent.relative_to(output))] = result["metrics"] | {"status": result["status"]}
    return rows


def same_users(one: Path, other: Path) -> bool:
    """Whether two folders hold the same figures of every single user."""
    pairs = [(path, other / path.relative_to(one)) for path in one.glob("*/*/*/*/metrics.parquet")]
    return all(pl.read_parquet(first).equals(pl.read_parquet(second)) for first, second in pairs)


def main() -> None:
    """Compute what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic-small")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--spread", type=float, default=6.0, help="seconds over which a kill's moment is drawn")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    story = options.output / "story.json"
    if not story.exists():
        if options.output.exists():
            raise SystemExit(f"{options.output} holds an interrupted comparison; choose another folder or remove it.")
        options.output.mkdir(parents=True)
        told = disturbed(options, options.output / "ray")
        local = subprocess.run(sweep(options, options.output / "local", "--jobs", "2", "--threads", "1"), check=True)
        told["local_status"] = local.returncode
        story.write_text(json.dumps(told, indent=1), encoding="utf-8")
    told = json.loads(story.read_text(encoding="utf-8"))
    ray, local_table = table(options.output / "ray"), table(options.output / "local")
    print(f"runs finished on Ray              {sum(row['status'] == 'finished' for row in ray.values())} of {RUNS}")
    for kill in told["kills"]:
        print(sentence(kill))
    for line in told["lost"]:
        print(f"  {line}")
    print(f"finished runs computed again      {len(told['computed_again'])}")
    print(f"figures equal to the local runner {ray == local_table}")
    print(f"and of every single user          {same_users(options.output / 'ray', options.output / 'local')}")
    print(f"seconds on Ray, kills included    {told['seconds']}")


if __name__ == "__main__":
    main()
