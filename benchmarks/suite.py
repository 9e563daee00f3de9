"""What the machine can do, and which share of it recascade uses: one command, one table, one page.

Run: python benchmarks/suite.py [--quick] [--output runs/scale] [--device cpu|cuda] [--threads 1] [--only PART …]

First the rates of matrix products (float32 and bfloat16) and of memory are measured; every share is of those. Then:
training steps of SASRec and HSTU, over sequence lengths and catalogue sizes and processes; full-ranking evaluation;
constrained beam search and what its masks cost; where a training step spends its time, and on a GPU how often the host
waits for it. With one thread, seconds are those of CPU time, so that other programs on the machine delay nothing.

Three bars need a GPU (45 % of the bfloat16 rate in training, masks at most 3 % of the search, no waiting in a step).
Without one they are measured on the CPU and reported as such. What ``--output`` holds is not measured again: give
another folder to measure anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from scale import beams, ranking
from scale.device import Device
from scale.page import Table, render
from scale.training import BLOCKS, DIMENSION, MODELS, NEGATIVES, TrainingStep

from recascade.files import write_atomically

Figures = dict[str, float]
NO_GPU = "No GPU was found: these figures are of the CPU, and the bar is open."


class Cells:
    """What was measured, one line of JSON for each; a suite that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.found: dict[str, Figures] = {cell["name"]: cell["figures"] for cell in map(json.loads, lines)}

    def measure(self, name: str, work: Callable[[], Figures]) -> Figures:
        """The cell, measured unless it is there."""
        if name not in self.found:
            self.found[name] = work()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "figures": self.found[name]}) + "\n")
            print(f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in self.found[name].items()), flush=True)
        return self.found[name]


def measured_rates(device: Device, cells: Cells) -> Table:
    """The ceilings."""

    def measure() -> Figures:
        device.measure_rates()
        return {**device.matrix_rates, "bandwidth": device.bandwidth}

    found = cells.measure("rates", measure)
    device.matrix_rates = {name: rate for name, rate in found.items() if name != "bandwidth"}
    device.bandwidth = found["bandwidth"]
    rows = [[f"matrix products, {name}", f"{rate / 1e9:,.1f} GFLOP/s"] for name, rate in device.matrix_rates.items()]
    rows.append(["memory, read and written", f"{device.bandwidth / 1e9:,.1f} GB/s"])
    return Table("The device", device.name, ["measured", "rate"], rows)


def training(device: Device, cells: Cells) -> Table:
    """The bar of training steps."""
    length, tokens = 512, 65_536 if device.gpu else 1024 if device.quick else 4096
    table = Table(
        "Training steps",
        f"d = {DIMENSION}, {BLOCKS} layers, sequences of {length} events, {tokens:,} tokens, {NEGATIVES} shared "
        f"negatives, 100,000 items, Adam. Bar: 45 % of the bfloat16 rate on a GPU. {'' if device.gpu else NO_GPU}",
        ["model", "matrix products in", "tokens/s", "share of rate", "peak memory"],
    )
    for name in MODELS:

        def work(name: str = name) -> Figures:
            return TrainingStep(
                device, name, length=length, tokens=tokens, items=100_000, compiled=device.gpu
            ).figures()

        found = cells.measure(f"training {name}", work)
        precision = "bfloat16" if device.gpu else "float32"
        table.rows.append([name, precision, *_training_cells(found)])
    return table


def over_lengths(device: Device, cells: Cells) -> Table:
    """Equal tokens in sequences of different lengths."""
    tokens = 65_536 if device.gpu else 1024 if device.quick else 4096
    lengths = [64, 256, 1024] if device.quick else [64, 128, 256, 512, 1024, 2048]
    return _scaling(
        device, cells, "Sequence length", "events", lengths, lambda length: {"length": length, "items": 10_000}, tokens
    )


def over_items(device: Device, cells: Cells) -> Table:
    """Equal tokens with catalogues of different sizes: what the table's gradient and Adam's moments cost."""
    tokens = 65_536 if device.gpu else 1024 if device.quick else 4096
    counts = [1_000, 10_000, 100_000] if device.quick else [1_000, 10_000, 100_000, 1_000_000]
    return _scaling(device, cells, "Items", "items", counts, lambda items: {"length": 128, "items": items}, tokens)


def _scaling(
    device: Device,
    cells: Cells,
    title: str,
    unit: str,
    values: list[int],
    settings: Callable[[int], dict[str, int]],
    tokens: int,
) -> Table:
    table = Table(
        f"Scaling: {title.lower()}",
        f"SASRec as above, about {tokens:,} tokens a step.",
        [unit, "tokens/s", "share of rate", "peak memory"],
    )
    rates = []
    for value in values:

        def work(value: int = value) -> Figures:
            step = TrainingStep(device, "SASRec", tokens=tokens, compiled=device.gpu, **settings(value))
            return step.figures()

        found = cells.measure(f"{title.lower()} {value}", work)
        table.rows.append([f"{value:,}", *_training_cells(found)])
        rates.append(found["tokens_per_second"])
    table.draw([float(value) for value in values], rates, unit, "tokens/s")
    return table


def over_processes(device: Device, cells: Cells) -> Table:
    """A small fit with one and with two processes."""
    table = Table(
        "Scaling: processes",
        "One epoch of a small SASRec (d = 128, 4,000 generated users, full softmax over 2,000 items) through "
        "trainer.devices, one thread each, wall time of the fit; all processes of a row share batches of 128 users.",
        ["processes", "tokens/s"],
    )
    most = torch.cuda.device_count() if device.gpu else 2
    for devices in sorted({1, min(2, most), most}):

        def work(devices: int = devices) -> Figures:
            script = Path(__file__).parent / "scale" / "processes.py"
            accelerator = "gpu" if device.gpu else "cpu"
            together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, *(together if devices > 1 else []), str(script), folder]
                command += ["--devices", str(devices), "--accelerator", accelerator]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            line = next(line for line in output.splitlines() if line.startswith("{"))
            return dict(json.loads(line))

        found = cells.measure(f"processes {devices}", work)
        table.rows.append([str(devices), f"{found['tokens_per_second']:,.0f}"])
    return table


def full_ranking(device: Device, cells: Cells) -> Table:
    """The bar of evaluation."""
    items = 100_000 if device.quick and not device.gpu else 1_000_000
    requests = 8192 if device.gpu else 512
    table = Table(
        "Full-ranking evaluation",
        f"{requests:,} requests over {items:,} items, float32. Bar: 80 % of the matrix-product rate, and memory of one "
        "chunk.",
        ["d", "list", "requests/s", "share of rate", "peak memory"],
    )
    for dimension, k in ((64, 10), (256, 10), (256, 100)):

        def work(dimension: int = dimension, k: int = k) -> Figures:
            return ranking.figures(device, items=items, dimension=dimension, requests=requests, k=k)

        found = cells.measure(f"ranking {dimension} {k}", work)
        rate = f"{found['requests_per_second']:,.0f}"
        table.rows.append([str(dimension), str(k), rate, f"{found['share']:.0%}", _megabytes(found["bytes"])])
    return table


def beam_search(device: Device, cells: Cells) -> Table:
    """The bar of masks."""
    items = 100_000 if device.quick and not device.gpu else 1_000_000
    small = device.quick and not device.gpu
    requests, width = (8, 32) if small else (64, 128)
    found = cells.measure("beams", lambda: beams.figures(device, items=items, requests=requests, beams=width))
    table = Table(
        "Constrained beam search",
        f"{requests} requests x {width} beams over {items:,} items of 3 codes; decoder-only model, d = 128, 4 blocks. "
        f"Bar: masks at most 3 % of the search on a GPU. {'' if device.gpu else NO_GPU}",
        ["", "measured"],
        [
            ["requests/s", f"{found['requests_per_second']:,.1f}"],
            ["seconds of a search", f"{found['seconds']:.3f}"],
            ["masks' share", f"{found['mask_share']:.1%}"],
        ],
    )
    captured = found.get("captured_seconds")
    needs = "needs a GPU" if captured is None else f"{captured:.4f}"
    table.rows.append(["seconds as one CUDA graph", needs])
    return table


def where_time_goes(device: Device, cells: Cells) -> Table:
    """A profile of a training step."""
    tokens = 65_536 if device.gpu else 1024 if device.quick else 4096

    def work() -> Figures:
        return TrainingStep(device, "SASRec", length=512, tokens=tokens, items=100_000, compiled=device.gpu).profile()

    found = cells.measure("profile", work)
    waits = found.get("waits")
    told = (
        f"The host waited {waits:.0f} times. Bar: never."
        if waits is not None
        else f"How often the host waits for the device: {NO_GPU}"
    )
    rows = [[name.partition(":")[2], f"{share:.1%}"] for name, share in found.items() if name.startswith("time:")]
    return Table("Where a SASRec step spends its time", told, ["operator", "share"], rows)


def _training_cells(found: Figures) -> list[str]:
    return [f"{found['tokens_per_second']:,.0f}", f"{found['share']:.0%}", _megabytes(found["bytes"])]


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


PARTS = (
    measured_rates,
    training,
    over_lengths,
    over_items,
    over_processes,
    full_ranking,
    beam_search,
    where_time_goes,
)


def main() -> None:
    """Measure, print, write ``suite.html`` and ``suite.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats: within three minutes")
    parser.add_argument("--output", type=Path, default=Path("runs/scale"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    names = [part.__name__ for part in PARTS[1:]]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these parts, after the rates")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = Device(arguments.device, arguments.quick)
    arguments.output.mkdir(parents=True, exist_ok=True)
    kind = f"{arguments.device}-{arguments.threads}{'-quick' if arguments.quick else ''}"
    cells = Cells(arguments.output / f"cells-{kind}.jsonl")
    tables = [part(device, cells) for part in PARTS if part is measured_rates or part.__name__ in arguments.only]
    summary = f"PyTorch {torch.__version__}, {device.name}; seconds of {device.clock} time" + (
        ", small sizes" if arguments.quick else ""
    )
    text = f"{summary}\n\n" + "\n".join(table.markdown() for table in tables)
    print(text)
    for name, content in (("suite.html", render("Scale", summary, tables)), ("suite.md", text)):
        with write_atomically(arguments.output / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(f"Written: {arguments.output / 'suite.html'}")


if __name__ == "__main__":
    main()
