"""What a step of reinforcement costs with ReCast and with GRPO on the full group: tokens, CPU time, memory.

Run: python benchmarks/recast_cost.py [--prompts 16] [--widths 8 32] [--steps 2]

One process per line, one thread. A decoder-only model of 4 codes per item answers prompts of 20 events (81 tokens) with
beams; weights and events are random, since cost does not depend on them. "actor" is everything behind the choice of
answers: reference and policy log-probabilities, backward pass, optimiser. "repeated" reads the prompt once per answer,
as the engines for language models do; "shared" reads it once for all answers of its group. The first step is not
counted. Memory is the peak of the process above what it held before its first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch
from recascade.models.decoder_only import DecoderOnly
from recascade.training.config import TrainerConfig
from recascade.training.meter import resident_bytes
from recascade_recast.actor import ActorRows
from recascade_recast.config import ReCastConfig, RolloutConfig, SignalConfig, UpdateConfig
from recascade_recast.module import ReCastModule

ITEMS, SIZES, EVENTS, WARM = 5_000, (64, 64, 64, 16), 20, 1
GRPO = SignalConfig(repair="never", contrast="group")


class Timed(ReCastModule):
    """Adds up CPU times and tokens of the steps after the first."""

    batches, generate_cpu, actor_cpu, tokens, held = 0, 0.0, 0.0, 0, 0

    def generate(self, batch: NextItemBatch) -> tuple[ActorRows, int]:
        """Timed."""
        self.batches += 1
        if self.batches == 1:
            self.held = resident_bytes()
        begin = time.process_time()
        made = super().generate(batch)
        if self.batches > WARM:
            self.generate_cpu += time.process_time() - begin
            width = self.model.history.per_event
            self.tokens += made[0].context.items.numel() * width + made[0].context.batch_size + made[0].codes.numel()
        return made

    def update(self, rows: ActorRows, answers: int) -> Tensor:
        """Timed."""
        begin = time.process_time()
        loss = super().update(rows, answers)
        if self.batches > WARM:
            self.actor_cpu += time.process_time() - begin
        return loss


def batches(prompts: int, count: int) -> DataLoader[Any]:
    """Random prompts."""
    random = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        items = torch.randint(ITEMS, (prompts * EVENTS,), generator=random)
        offsets = torch.arange(prompts + 1) * EVENTS
        context = Context(torch.arange(prompts), items, torch.zeros_like(items), offsets)
        made.append(NextItemBatch(context, offsets[1:] - 1, torch.randint(ITEMS, (prompts,), generator=random)))
    return DataLoader(made, batch_size=None)  # type: ignore[arg-type]


def measure(signal: str, share_context: bool, width: int, prompts: int, steps: int) -> dict[str, float]:
    """Means per step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(size, (ITEMS,)) for size in SIZES], dim=1)
    model = DecoderOnly(codes, SIZES, dimension=64, blocks=2, heads=4, hidden=256, max_length=EVENTS)
    config = ReCastConfig(
        rollout=RolloutConfig(width=width),
        signal=GRPO if signal == "grpo" else SignalConfig(),
        update=UpdateConfig(share_context=share_context, learning_rate=1e-5, warmup_steps=0),
    )
    module = Timed(model, codes, config, TrainerConfig())
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=WARM + steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches(prompts, WARM + steps))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tokens": module.tokens / steps,
        "generate": module.generate_cpu / steps,
        "actor": module.actor_cpu / steps,
        "memory": (peak - module.held) / 2**20,
    }


def in_process(arguments: dict[str, Any]) -> dict[str, float]:
    """Measure in a process of its own, whose peak of memory is nobody else's."""
    command = [sys.executable, __file__, "--one", json.dumps(arguments)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Print one line per configuration."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        warnings.filterwarnings("ignore")
        print(json.dumps(measure(**json.loads(given.one))))
        return
    print(f"{'prompt':<9}{'G':>4} {'signal':<7}{'actor tokens':>13}{'generate s':>11}{'actor s':>9}{'memory MiB':>11}")
    for share_context in (False, True):
        for width in given.widths:
            lines = {}
            for signal in ("grpo", "recast"):
                line = lines[signal] = in_process(
                    {
                        "signal": signal,
                        "share_context": share_context,
                        "width": width,
                        "prompts": given.prompts,
                        "steps": given.steps,
                    }
                )
                name = "shared" if share_context else "repeated"
                print(
                    f"{name:<9}{width:>4} {signal:<7}{line['tokens']:>13,.0f}{line['generate']:>11.3f}"
                    f"{line['actor']:>9.3f}{line['memory']:>11.0f}"
                )
            full, pair = lines["grpo"], lines["recast"]
            ratios = [full[key] / pair[key] for key in ("tokens", "generate", "actor", "memory")]
            print(f"{'':<14}ratio  {ratios[0]:>13.1f}{ratios[1]:>11.2f}{ratios[2]:>9.1f}{ratios[3]:>11.1f}")


if __name__ == "__main__":
    main()
