"""SASRec by recascade, RecTools and RePlay: the same work, one process and one core each.

Architecture, loss, batch size and epochs are the same. Measured are the CPU seconds of a training epoch, those of a
full-ranking evaluation and the peak memory, on MovieLens-1M (long histories) and Amazon Beauty (short ones), and on
MovieLens-100K whether the quality agrees, by one evaluator. Libraries take turns, so that whatever else the machine
does falls on all of them. The peers get environments of their own, made at first use.

    python benchmarks/peers/compare.py --data-root DATA --venv-dir .venv-peers --output peers.json

DATA holds canonical folders named ``ml-1m``, ``amazon-beauty`` and ``ml-100k``; ``--only`` chooses among them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environments import interpreter, one_thread
from numpy.typing import NDArray
from sequences import write_sequences
from workload import Measurement, Sequences, Workload

from recascade.evaluation.ranking_metrics import hit_rate, ndcg

HERE = Path(__file__).resolve().parent
LIBRARIES = ("recascade", "rectools", "replay", "replay-trimmed")
EPOCHS = {"ml-1m": 2, "amazon-beauty": 3, "ml-100k": 30}
MAX_LENGTH = {"ml-1m": 200, "amazon-beauty": 50, "ml-100k": 50}


@dataclass(frozen=True)
class Result:
    """One library's run of one workload.

    Attributes:
        measurement: what it says of itself.
        hit_rate: at the workload's cutoff, by the one evaluator.
        ndcg: the same.
        ndcg_standard_error: over users.
    """

    measurement: Measurement
    hit_rate: float
    ndcg: float
    ndcg_standard_error: float


class LibraryFailedError(Exception):
    """A library did not finish its workload."""


def run(library: str, workload: Workload, venv_dir: Path) -> Result:
    """Train and evaluate in a process of its own, on one core."""
    name, _, option = library.partition("-")
    python = Path(sys.executable) if name == "recascade" else interpreter(venv_dir, name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        workload.save(folder / "workload.json")
        command = [str(python), str(HERE / f"run_{name}.py"), str(folder / "workload.json"), str(folder)]
        done = subprocess.run(
            [*command, f"--{option}"] if option else command,
            env=one_thread(),
            preexec_fn=_one_core(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LibraryFailedError(f"{library} failed on {workload.name}:\n{done.stderr}")
        measurement = Measurement(**json.loads((folder / "measurement.json").read_text(encoding="utf-8")))
        lists = np.load(folder / "lists.npy", allow_pickle=False)
    return _judge(measurement, lists, Sequences.load(workload.sequences), workload.cutoff)


def _one_core() -> Callable[[], None] | None:
    """Ties a child process to one core, where the system can (Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {core})


def _judge(measurement: Measurement, lists: NDArray[np.int64], sequences: Sequences, cutoff: int) -> Result:
    wanted = np.where(sequences.targets >= 0, sequences.targets, -2)[:, None]
    hits = lists == wanted
    counts = np.ones(len(hits), dtype=np.int64)
    gains = ndcg(hits, counts, cutoff)
    error = float(gains.std(ddof=1) / len(gains) ** 0.5)
    return Result(measurement, float(hit_rate(hits, counts, cutoff).mean()), float(gains.mean()), error)


def useful_operations(workload: Workload) -> float:
    """Floating-point operations of one epoch that any implementation needs: real events, causal pairs, no padding.

    Multiply-adds of the forward pass, times 2 for operations, times 3 for forward and backward. Per event and block
    4 d² for the projections of the attention and 2 d² for the feed-forward layer; per block and pair of an event with
    itself or an earlier one 2 d; per target d times the catalogue for the full softmax.
    """
    sequences = Sequences.load(workload.sequences)
    lengths = np.minimum(sequences.lengths - 1, workload.max_length).astype(np.float64)
    events, pairs = lengths.sum(), (lengths * (lengths + 1) / 2).sum()
    width = workload.dimension
    body = workload.blocks * (6 * width**2 * events + 2 * width * pairs)
    return float(6 * (body + events * width * sequences.item_count))


def epoch_seconds(results: list[Result]) -> float:
    """Median CPU seconds of an epoch over repeats; first epochs warm up and do not count where there are others."""
    return statistics.median(
        second
        for result in results
        for second in result.measurement.epoch_cpu_seconds[1:] or result.measurement.epoch_cpu_seconds
    )


def table(workload: Workload, results: dict[str, list[Result]], matrix_rate: float) -> str:
    """Markdown: a row per library, ratios against the first."""
    operations = useful_operations(workload)
    lines = [
        "| library | CPU s per epoch | ratio | CPU s to evaluate | ratio | peak MB | of it imports "
        f"| share of matrix rate | HR@{workload.cutoff} | NDCG@{workload.cutoff} ± standard error |",
        "| --- " + "| ---: " * 9 + "|",
    ]
    base_epoch = base_evaluation = None
    for repeats in filter(None, results.values()):
        epoch = epoch_seconds(repeats)
        evaluation = statistics.median(result.measurement.evaluation_cpu_seconds for result in repeats)
        base_epoch, base_evaluation = base_epoch or epoch, base_evaluation or evaluation
        memory = max(result.measurement.memory_after_evaluation for result in repeats) / 1e6
        imports = max(result.measurement.memory_after_import for result in repeats) / 1e6
        gain = statistics.mean(result.ndcg for result in repeats)
        error = statistics.mean(result.ndcg_standard_error for result in repeats)
        hits = statistics.mean(result.hit_rate for result in repeats)
        lines.append(
            f"| {repeats[0].measurement.library} | {epoch:.2f} | {epoch / base_epoch:.2f} | {evaluation:.2f} "
            f"| {evaluation / base_evaluation:.2f} | {memory:.0f} | {imports:.0f} "
            f"| {operations / epoch / matrix_rate:.0%} | {hits:.4f} | {gain:.4f} ± {error:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print tables, write everything to JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of canonical data folders")
    parser.add_argument("--venv-dir", type=Path, default=Path(".venv-peers"), help="where the peers' environments are")
    parser.add_argument("--only", nargs="+", choices=list(EPOCHS), default=list(EPOCHS), help="data sets to measure on")
    parser.add_argument(
        "--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="ratios: to the first"
    )
    parser.add_argument("--epochs", type=int, help="instead of the epochs that each data set has by default")
    parser.add_argument("--repeats", type=int, default=2, help="runs per library, with seeds 0, 1, …")
    parser.add_argument("--output", type=Path, default=Path("peers.json"), help="JSON file with all measurements")
    arguments = parser.parse_args()

    matrix_rate = measure_matrix_rate()
    print(f"One core multiplies matrices at {matrix_rate / 1e9:.1f} billion operations per CPU second.", flush=True)
    record: dict[str, Any] = {
        "machine": {"processor": processor_name(), "cores": os.cpu_count(), "matrix_rate": matrix_rate},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "workloads": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only:
            sequences = Path(scratch) / f"{name}.npz"
            write_sequences(arguments.data_root / name, sequences)
            epochs = arguments.epochs or EPOCHS[name]
            workload = Workload(name, str(sequences), epochs, MAX_LENGTH[name])
            results: dict[str, list[Result]] = {library: [] for library in arguments.libraries}
            for seed in range(arguments.repeats):
                for library, repeats in results.items():
                    try:
                        repeats.append(run(library, replace(workload, seed=seed), arguments.venv_dir))
                        print(f"{name}: {library}, seed {seed} done", flush=True)
                    except LibraryFailedError as error:
                        print(error, file=sys.stderr, flush=True)
                    record["workloads"][name] = as_record(workload, results)
                    arguments.output.write_text(json.dumps(record, indent=1), encoding="utf-8")
            print(f"\n{name}: {epochs} epochs, {arguments.repeats} repeats\n")
            print(table(workload, results, matrix_rate), end="\n\n", flush=True)
    print(f"All measurements: {arguments.output}")


def measure_matrix_rate() -> float:
    """Operations per CPU second, measured in a process of its own as the libraries are."""
    done = subprocess.run(
        [sys.executable, str(HERE / "matrix_rate.py")],
        env=one_thread(),
        preexec_fn=_one_core(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def processor_name() -> str:
    """As the system calls it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def as_record(workload: Workload, results: dict[str, list[Result]]) -> dict[str, Any]:
    """What the JSON file keeps of one data set."""
    settings = {key: value for key, value in asdict(workload).items() if key not in ("name", "sequences", "seed")}
    return {
        "settings": settings,
        "useful_operations_per_epoch": useful_operations(workload),
        "results": {library: [asdict(result) for result in repeats] for library, repeats in results.items()},
    }


if __name__ == "__main__":
    main()
