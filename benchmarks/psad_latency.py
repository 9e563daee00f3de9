"""What PSAD costs per request on one core: student, teacher by block size, each end to end and in parts.

CPU time of one thread, medians and 95th and 99th percentiles; untrained weights, which cost what trained ones do. End
to end is from a batch of indices and features to the order: embeddings, User Profile Network, network, sort.

    python benchmarks/psad_latency.py
    python benchmarks/psad_latency.py --candidates 30 --batches 1 64 --blocks-deep 1
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.nn.list_order import order_by_scores
from recascade.settings import compose_sections
from recascade_psad.config import PSADConfig
from recascade_psad.engines import Engine, OnnxEngine, TorchEngine
from recascade_psad.export import ONNX, export_onnx, student_of
from recascade_psad.model import PSADModel
from recascade_psad.user_profile_network import UserView

WARM_UP = 30


def lists(schema: RerankingSchema, count: int) -> RerankingBatch:
    """Full lists with full histories."""
    random = torch.Generator().manual_seed(0)

    def codes(sizes: tuple[int, ...], *shape: int) -> torch.Tensor:
        columns = [torch.randint(0, size, shape, generator=random) for size in sizes]
        return torch.stack(columns, -1)

    places, events = (count, schema.candidates), (count, schema.history)
    return RerankingBatch(
        lists=torch.arange(count),
        candidate_items=codes((schema.item_count,), *places)[..., 0],
        candidate_fields=codes(schema.field_sizes, *places),
        candidate_features=torch.randn(*places, schema.feature_count, generator=random),
        candidate_mask=torch.ones(places, dtype=torch.bool),
        initial_scores=torch.randn(places, generator=random),
        history_items=codes((schema.item_count,), *events)[..., 0],
        history_fields=codes(schema.field_sizes, *events),
        history_features=torch.randn(*events, schema.feature_count, generator=random),
        history_ages=torch.rand(events, generator=random) * 15,
        history_mask=torch.ones(events, dtype=torch.bool),
        profile=codes(schema.profile_sizes, count),
        labels=torch.zeros(places),
    )


def model_of(schema: RerankingSchema, dimension: int, deep: int, context: str, block: int) -> PSADModel:
    """A network of these sizes with random weights."""
    torch.manual_seed(0)
    overrides = {
        "model.dimension": dimension,
        "model.hidden": 2 * dimension,
        "model.teacher.encoder_blocks": deep,
        "model.teacher.decoder_blocks": deep,
        "model.student.context": context,
        "model.teacher.block": block,
    }
    return PSADModel(compose_sections({"model": PSADConfig}, overrides)["model"], schema).eval()


def measured(call: Callable[[], object], repetitions: int) -> np.ndarray:
    """Milliseconds of CPU of each call, behind a warm-up."""
    for _ in range(WARM_UP):
        call()
    spent = np.empty(repetitions)
    for number in range(repetitions):
        begin = time.thread_time_ns()
        call()
        spent[number] = (time.thread_time_ns() - begin) / 1e6
    return spent


def calls(
    schema: RerankingSchema, batch: RerankingBatch, dimension: int, deep: int, context: str, folder: Path
) -> dict[str, Callable[[], object]]:
    """Name → what is timed."""
    mask, width = batch.candidate_mask, schema.candidates
    model = model_of(schema, dimension, deep, context, 5)
    student = student_of(model)
    export_onnx(student, folder / ONNX)

    def served(engine: Engine) -> Callable[[], object]:
        return lambda: order_by_scores(engine.scores(batch), mask, width)

    with torch.inference_mode():
        view = model.profile(batch)
    assert model.student is not None
    found: dict[str, Callable[[], object]] = {
        "profile network": lambda: model.profile(batch),
        f"student head ({context})": lambda: model.student_scores(view),
        "student end to end, PyTorch": served(TorchEngine(student)),
        "student end to end, ONNX Runtime": served(OnnxEngine(folder / ONNX, student)),
    }
    for block in (1, 2, 5, 10, 0):
        if block > width:
            continue
        teacher = model_of(schema, dimension, deep, context, block)
        label = {1: "K=1 (AR)", 0: "K=n (NAR)"}.get(block, f"K={block}")
        found[f"teacher end to end, {label}"] = partial(written, teacher, batch, width)
        if block in (1, 2, 5):
            found[f"teacher end to end, {label}, no cache"] = partial(written, teacher, batch, width, cached=False)
        if block == 5:
            found["teacher behind the profile network, K=5"] = partial(written, teacher, batch, width, view)
            found["teacher behind the profile network, K=5, no cache"] = partial(
                written, teacher, batch, width, view, cached=False
            )
    return found


def written(
    model: PSADModel, batch: RerankingBatch, width: int, view: UserView | None = None, *, cached: bool = True
) -> torch.Tensor:
    """The teacher's order."""
    return model.generate(model.encode(batch, width, view), cached=cached).order


def bounds(medians: dict[str, float], candidates: int, context: str) -> list[tuple[str, float, str, float, bool]]:
    """The requirements on ratios, against the teacher without a cache, which they were written for, and with one: name,
    measured, direction, bound, whether it holds."""
    small, found = candidates <= 10, []
    for cache in (", no cache", ""):
        ar, two, five = (medians[f"teacher end to end, {label}{cache}"] for label in ("K=1 (AR)", "K=2", "K=5"))
        teacher, head = medians[f"teacher behind the profile network, K=5{cache}"], medians[f"student head ({context})"]
        found += [
            (f"L1 time(K=1) / time(K=2){cache}", ar / two, ">", 1.0),
            (f"L1 time(K=2) / time(K=5){cache}", two / five, ">", 1.0),
            (f"L2 time(K=1) / time(K=5){cache}", ar / five, ">=", 1.5 if small else 2.5),
            (f"L4 teacher K=5 / student head{cache}", teacher / head, ">=", 5.0),
        ]
        for engine in ("PyTorch", "ONNX Runtime"):
            student = medians[f"student end to end, {engine}"]
            found.append((f"L3 student, {engine} / teacher K=5{cache}", student / five, "<=", 0.6 if small else 0.4))
            if not small:
                found.append((f"student, {engine} / teacher K=5{cache}", student / five, "<=", 0.25))
                found.append((f"student, {engine} / AR{cache}", student / ar, "<=", 0.05))
    return [
        (name, got, sign, bound, got > bound if sign == ">" else got >= bound if sign == ">=" else got <= bound)
        for name, got, sign, bound in found
    ]


def main() -> None:
    """Time everything, then print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--history", type=int, default=30)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--blocks-deep", type=int, default=2, help="transformer blocks of encoder and decoder each")
    parser.add_argument("--context", choices=("none", "pool", "attention", "transformer"), default="attention")
    parser.add_argument("--repetitions", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"d={arguments.dimension}, {arguments.blocks_deep}+{arguments.blocks_deep} blocks, context {arguments.context}"
    )
    print("\n| n | batch | what | p50 ms | p95 ms | p99 ms |\n|-|-|-|-|-|-|")
    verdicts = []
    for candidates in arguments.candidates:
        schema = RerankingSchema(5_000, (100, 20), 10, (5, 5, 5), candidates, arguments.history)
        for size in arguments.batches:
            batch, medians = lists(schema, size), {}
            with TemporaryDirectory() as folder, torch.inference_mode(False):
                timed = calls(
                    schema, batch, arguments.dimension, arguments.blocks_deep, arguments.context, Path(folder)
                )
                for name, call in timed.items():
                    with torch.inference_mode():
                        spent = measured(call, arguments.repetitions if size == 1 else arguments.repetitions // 4)
                    medians[name] = float(np.median(spent))
                    p95, p99 = np.percentile(spent, [95, 99])
                    print(
                        f"| {candidates} | {size} | {name} | {medians[name]:.3f} | {p95:.3f} | {p99:.3f} |", flush=True
                    )
            verdicts += [(candidates, size, *each) for each in bounds(medians, candidates, arguments.context)]
    print("\n| n | batch | requirement | measured | bound | holds |\n|-|-|-|-|-|-|")
    for candidates, size, name, got, sign, bound, holds in verdicts:
        print(f"| {candidates} | {size} | {name} | {got:.3f} | {sign} {bound} | {'yes' if holds else 'NO'} |")


if __name__ == "__main__":
    main()
