"""A log larger than memory: import, 5-core, split, encoding, one training epoch and evaluation under a memory cap.

The logs are generated (millions of events over one year, in the order of time; one user for 50 events, one item for
100: 100 million events have two million users and one million items). Each step runs in a process of its own, inside
a control group with the cap where the system lets this user make one (Linux as root): a step that needs more is
killed. Elsewhere the cap is only told to the library, and compared with what was measured.

Memory is given twice: *anonymous*, which is what the step itself allocated (sampled 20 times a second), and *resident*,
its peak with mapped files, which the system takes back when it needs the room. CPU seconds are those of all threads.

    python benchmarks/scale_streaming.py --millions 12.5 25 50 100 --output runs/scale
    python benchmarks/scale_streaming.py --millions 1 --output runs/scale-small

A finished step is never run again, so that the command can be stopped and repeated. Needs about 12 GB of disk at 100
million events: the files of a size are removed when all its steps are done.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_LENGTH = 50


def generate(folder: Path, events: int) -> dict[str, Any]:
    """The log as CSV, as one would get it; not part of what is measured."""
    from recascade.data.synthetic_large import large_log

    made = large_log(folder / "generated", events=events, users=max(1, events // 50), items=max(1, events // 100))
    made.interactions().sink_csv(folder / "log.csv")
    shutil.rmtree(folder / "generated")
    return {"csv_bytes": (folder / "log.csv").stat().st_size}


def import_log(folder: Path, events: int) -> dict[str, Any]:
    """``recascade data import delimited``."""
    from recascade.data.adapters.registry import import_dataset

    return import_dataset("delimited", folder / "log.csv", folder / "imported").facts["counts"]


def five_core(folder: Path, events: int) -> dict[str, Any]:
    """``recascade data filter --k-core 5``."""
    from recascade.data.dataset import Dataset
    from recascade.data.filters import write_filtered
    from recascade.data.split_config import SplitConfig

    config = SplitConfig(user_min_events=5, item_min_events=5)
    return write_filtered(Dataset.open(folder / "imported"), config, folder / "filtered").facts["counts"]


def split(folder: Path, events: int) -> dict[str, Any]:
    """``recascade data split``: leave-one-out."""
    from recascade.data.dataset import Dataset
    from recascade.data.split import make_split
    from recascade.data.split_config import SplitConfig

    made = make_split(Dataset.open(folder / "filtered"), SplitConfig(), folder / "split")
    return made.manifest.counts | {"fingerprint": made.manifest.fingerprint}


def encode(folder: Path, events: int) -> dict[str, Any]:
    """Identifiers to indices, as the first run on a split does."""
    from recascade.data.encode import encode as encode_split
    from recascade.data.split import Split

    encoded = encode_split(Split.open(folder / "split"))
    return {"users": len(encoded.users), "items": len(encoded.items)}


def train(folder: Path, events: int) -> dict[str, Any]:
    """One epoch of a small SASRec over every event: sampled softmax, validation on 1,000 users over all items."""
    from dataclasses import asdict

    import torch

    from recascade.data.next_item import NextItemData
    from recascade.training.config import LossConfig, TrainerConfig
    from recascade.training.fit import fit
    from recascade.training.next_item import NextItemModule

    torch.manual_seed(0)
    data, model = _encoded_and_model(folder)
    trainer = TrainerConfig(
        max_epochs=1,
        batch_sequences=2048,
        batch_tokens=65_536,
        validation_users=1_000,
        tensorboard=False,
        accelerator="cpu",
        progress=False,
    )
    loss = LossConfig("sampled_softmax", negatives=128)
    batches = NextItemData(data, trainer, max_length=MAX_LENGTH, windows="chunks")
    return asdict(fit(NextItemModule(model, data, loss, trainer), batches, trainer, folder / "run"))


def evaluate(folder: Path, events: int) -> dict[str, Any]:
    """The test part: 5,000 users, all items ranked."""
    import torch
    from safetensors.torch import load_file

    from recascade.evaluation.config import EvaluationConfig
    from recascade.evaluation.evaluate import evaluate as evaluate_retriever
    from recascade.models.next_item import InnerProductRetriever

    data, model = _encoded_and_model(folder)
    model.load_state_dict(load_file(folder / "run" / "weights.safetensors"))
    retriever = InnerProductRetriever(model, torch.from_numpy(data.item_counts))
    config = EvaluationConfig(cutoffs=[10], metrics=["ndcg", "recall"], max_users=5_000)
    return evaluate_retriever(retriever, data, "test", config).summary


def _encoded_and_model(folder: Path) -> tuple[Any, Any]:
    from recascade.data.encode import encode as encode_split
    from recascade.data.split import Split
    from recascade.models.sasrec import SASRec

    data = encode_split(Split.open(folder / "split"))
    return data, SASRec(len(data.items), dimension=16, blocks=1, max_length=MAX_LENGTH, dropout=0.0)


STEPS: tuple[Callable[[Path, int], dict[str, Any]], ...] = (
    generate,
    import_log,
    five_core,
    split,
    encode,
    train,
    evaluate,
)
# What no later step reads.
SPENT = {"import_log": "log.csv", "five_core": "imported", "split": "filtered"}


@contextmanager
def control_group(cap: int) -> Any:
    """A control group with the cap, or None where none can be made: the file to which a process writes itself."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = Path(root) / f"scale-streaming-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(cap))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        try:
            yield folder / "cgroup.procs"
        finally:
            folder.rmdir()
        return
    yield None


def run_step(number: int, folder: Path, events: int, group: Path | None, result: Path) -> None:
    """One step, in a fresh process; leaves what it found and its CPU time."""
    if group is not None:
        group.write_text(str(os.getpid()))
    found = STEPS[number](folder, events)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result.write_text(json.dumps({"found": found, "cpu_seconds": usage.ru_utime + usage.ru_stime}), encoding="utf-8")


def memory_of(process: int) -> dict[str, int]:
    """Bytes of a living process: ``anonymous`` now, ``resident`` at its peak."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    kinds = {"anonymous": "RssAnon", "resident": "VmHWM"}
    return {kind: int(fields[name].split()[0]) * 1024 for kind, name in kinds.items() if name in fields}


def measure(number: int, folder: Path, events: int, cap: int) -> dict[str, Any]:
    """Run a step under the cap and say what it cost."""
    working = folder / "result.tmp"
    peaks = {"anonymous": 0, "resident": 0}
    with control_group(cap) as group:
        process = multiprocessing.get_context("spawn").Process(
            target=run_step, args=(number, folder, events, group, working)
        )
        started = time.perf_counter()
        process.start()
        while process.is_alive():
            for kind, value in memory_of(process.pid or 0).items():
                peaks[kind] = max(peaks[kind], value)
            process.join(0.05)
    if process.exitcode:
        killed = " It was killed: it needed more than the cap." if process.exitcode == -9 else ""
        raise SystemExit(f"{STEPS[number].__name__} of {events:,} events ended with {process.exitcode}.{killed}")
    measured = json.loads(working.read_text(encoding="utf-8"))
    return {**measured, "seconds": time.perf_counter() - started, "enforced": group is not None, **peaks}


def measure_size(millions: float, cap: int, output: Path) -> None:
    """All steps of one size that are not done yet."""
    events = int(millions * 1e6)
    folder = output / f"working-{millions:g}"
    for number, step in enumerate(STEPS):
        result = output / f"{millions:g}-{step.__name__}.json"
        if result.is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        measured = measure(number, folder, events, cap)
        result.with_suffix(".tmp").write_text(json.dumps({"millions": millions, **measured}, indent=1))
        result.with_suffix(".tmp").replace(result)
        print(f"{millions:g} million, {step.__name__}: {measured['seconds']:,.0f} s", flush=True)
        spent = folder / SPENT.get(step.__name__, "nothing")
        if spent.is_dir():
            shutil.rmtree(spent)
        spent.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def print_table(output: Path) -> None:
    """One row per step and size."""
    print(
        "\n| step | million events | CPU s | wall s | µs of CPU per event | anonymous GB | resident GB | cap enforced |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for step in STEPS[1:]:
        found = [json.loads(path.read_text()) for path in output.glob(f"*-{step.__name__}.json")]
        for row in sorted(found, key=lambda row: float(row["millions"])):
            print(
                f"| {step.__name__} | {row['millions']:g} | {row['cpu_seconds']:,.0f} | {row['seconds']:,.0f} "
                f"| {row['cpu_seconds'] / row['millions']:.2f} | {row['anonymous'] / 1e9:.2f} "
                f"| {row['resident'] / 1e9:.2f} | {'yes' if row['enforced'] else 'no'} |"
            )
    for path in sorted(output.glob("*-train.json")):
        row = json.loads(path.read_text())
        found = row["found"]
        print(
            f"\n{row['millions']:g} million: {found['tokens']:,} tokens in {found['steps']:,} steps, "
            f"{found['tokens'] / found['cpu_seconds']:,.0f} tokens per CPU second, "
            f"validation NDCG@10 {found['best_value']:.4f}"
        )


def main() -> None:
    """Compute what is missing, size by size, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[12.5, 25.0, 50.0, 100.0])
    parser.add_argument("--memory", default="4GB", help="the cap, as RECASCADE_MEMORY")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["RECASCADE_MEMORY"] = arguments.memory
    from recascade.data.memory import memory_bytes

    arguments.output.mkdir(parents=True, exist_ok=True)
    for millions in arguments.millions:
        measure_size(millions, memory_bytes(), arguments.output)
    print_table(arguments.output)


if __name__ == "__main__":
    main()
