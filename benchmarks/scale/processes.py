"""Training with one process and with several (``trainer.devices``), each in a call of its own.

Run: python benchmarks/scale/processes.py --devices 2 --accelerator cpu

Prints one line of JSON with the events per second of the whole fit.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch

from recascade.data.encode import encode
from recascade.data.next_item import NextItemData
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.models.sasrec import SASRec
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.fit import fit
from recascade.training.next_item import NextItemModule

LENGTH, USERS, ITEMS = 100, 4_000, 2_000


def main() -> None:
    """Train one epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = TrainerConfig(
        max_epochs=1,
        validate_every=0,
        batch_sequences=128 // arguments.devices,
        devices=arguments.devices,
        accelerator=arguments.accelerator,
        progress=False,
        tensorboard=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        # The other processes are started by the first one's fit and inherit its environment: one run directory for all.
        run = Path(os.environ.setdefault("RECASCADE_SCALE_RUN", str(Path(folder) / "run")))
        log = markov_log(Path(folder) / "log", users=USERS, items=ITEMS, mean_length=60.0, seed=0)
        data = encode(make_split(log, SplitConfig(), Path(folder) / "split"))
        module = NextItemModule(SASRec(len(data.items), 128, 2, 2, LENGTH), data, LossConfig(), trainer)
        result = fit(module, NextItemData(data, trainer, max_length=LENGTH), trainer, run)
        print(json.dumps({"tokens_per_second": result.tokens / result.seconds}), flush=True)


if __name__ == "__main__":
    main()
