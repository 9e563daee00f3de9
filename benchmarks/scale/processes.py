"""Training with one process and with several (``trainer.devices``), all with the same batches.

Run: python benchmarks/scale/processes.py RUN
or:  python -m torch.distributed.run --standalone --nproc-per-node=2 benchmarks/scale/processes.py RUN --devices 2

RUN is a new folder for the run. Prints one line of JSON with the events per second of the whole fit.
"""

from __future__ import annotations

import argparse
import json
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
from recascade.training.processes import current_place

LENGTH, USERS, ITEMS = 100, 4_000, 2_000


def main() -> None:
    """Train one epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a new or empty folder, the same for all processes")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = TrainerConfig(
        max_epochs=1,
        validate_every=0,
        batch_sequences=128,
        devices=arguments.devices,
        accelerator=arguments.accelerator,
        progress=False,
        tensorboard=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        log = markov_log(Path(folder) / "log", users=arguments.users, items=ITEMS, mean_length=60.0, seed=0)
        data = encode(make_split(log, SplitConfig(), Path(folder) / "split"))
        module = NextItemModule(SASRec(len(data.items), 128, 2, 2, LENGTH), data, LossConfig(), trainer)
        result = fit(module, NextItemData(data, trainer, max_length=LENGTH), trainer, arguments.run / "run")
        if current_place().rank == 0:
            print(json.dumps({"tokens_per_second": result.tokens / result.seconds}), flush=True)


if __name__ == "__main__":
    main()
