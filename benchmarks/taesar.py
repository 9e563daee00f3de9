"""CPU seconds and memory of every stage of Taesar on the work that its released code was timed on.

The data set crossdomain-synthetic has the release's item numbers; shapes, epochs and batch sizes are those of the timed
run: width 128, 2 layers, 2 heads, batches of 128, Adam 3e-4; 4 epochs of the mixed model and 2 of each of four experts;
decoding for the domain books; 4 epochs each from scratch on regenerated, own and mixed rows. Everything runs in one
process, whose start is counted apart.

    python benchmarks/taesar.py
"""

from __future__ import annotations

import resource
import time

BEGIN = time.process_time()

import argparse  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from recascade.contracts.method import Experiment  # noqa: E402
from recascade.data.encode import encode  # noqa: E402
from recascade.data.sources import resolve  # noqa: E402
from recascade.data.split import make_split  # noqa: E402
from recascade.data.split_config import SplitConfig  # noqa: E402
from recascade.training.config import TrainerConfig  # noqa: E402
from recascade_taesar.backbone_config import BackboneConfig  # noqa: E402
from recascade_taesar.backbones import train_backbone  # noqa: E402
from recascade_taesar.config import RegeneratorConfig, TaesarConfig  # noqa: E402
from recascade_taesar.models import train_models  # noqa: E402
from recascade_taesar.regenerate import regenerate  # noqa: E402

# CPU seconds of the released code, one thread, with about 12 s of start-up in each process; peak memory in GB.
RELEASE = {"models": 95.1, "decoding": 21.2, "regenerated": 32.6, "own": 17.3, "mixed": 40.4}
RELEASE_PEAK = 1.6
TARGET = "books"


class Stages:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count what the block takes to a stage."""
        begin = time.process_time()
        yield
        self.seconds[name] = time.process_time() - begin


def measure(folder: Path) -> Stages:
    """The whole pipeline, in a folder that is empty at first."""
    stages = Stages()
    stages.seconds["start"] = time.process_time() - BEGIN
    with stages.timed("data"):
        split = make_split(resolve("crossdomain-synthetic"), SplitConfig(ties="file"), folder / "split")
        data = encode(split)
    trainer = TrainerConfig(
        max_epochs=4,
        learning_rate=3e-4,
        adam_beta2=0.999,
        batch_sequences=128,
        patience=10,
        progress=False,
        tensorboard=False,
        accelerator="cpu",
    )
    settings = RegeneratorConfig(dimension=128, epochs=4, adaptation_epochs=2, learning_rate=3e-4)
    config = TaesarConfig(regenerator=settings, models=str(folder / "models"))
    with stages.timed("models"):
        train_models(data, settings, folder / "models", 0, trainer)
    with stages.timed("decoding"):
        made = regenerate(split, data, config, {TARGET: folder / "made"}, folder / "work", seed=0, trainer=trainer)
    own = replace(config, training_data="target")
    alone = regenerate(split, data, own, {TARGET: folder / "own"}, folder / "work-own", seed=0, trainer=trainer)
    backbone = BackboneConfig(dimension=128, heads=2, max_length=126)
    for name, dataset in (("regenerated", made[TARGET]), ("own", alone[TARGET]), ("mixed", None)):
        given = split if dataset is None else make_split(dataset, SplitConfig(), folder / f"split-{name}")
        with stages.timed(name):
            experiment = Experiment(config, trainer, data, split, 0, folder / name)
            train_backbone(experiment, encode(given), backbone)
    return stages


def main() -> None:
    """Measure, and print beside the release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    with tempfile.TemporaryDirectory() as folder:
        stages = measure(Path(folder))
    print("| stage | CPU s | release | ratio |\n| --- | --- | --- | --- |")
    for name, seconds in stages.seconds.items():
        known = RELEASE.get(name)
        print(f"| {name} | {seconds:.2f} | " + (f"{known} | {known / seconds:.1f} |" if known else "– | – |"))
    total = sum(seconds for name, seconds in stages.seconds.items() if name != "start")
    whole = sum(RELEASE.values())
    print(f"| whole pipeline | {total:.2f} | {whole:.1f} | {whole / total:.1f} |")
    print(
        f"| with the start | {total + stages.seconds['start']:.2f} | {whole:.1f} | "
        f"{whole / (total + stages.seconds['start']):.1f} |"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| peak memory, GB | {peak:.2f} | {RELEASE_PEAK} | {RELEASE_PEAK / peak:.1f} |")


if __name__ == "__main__":
    main()
