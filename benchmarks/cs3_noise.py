"""How much noise in the towers' inputs costs, with Cycle-Adaptive Structure and without.

The paper is reported to add N(0, 0.1²) to the input. Here every prediction of the stream's second half is made twice,
once with such noise on the first layers' inputs, and both AUCs are printed; learning never sees the noise.

Run: python benchmarks/cs3_noise.py [ml-100k] [--seeds 5] [--deviation 0.1]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from cs3_prequential import STREAMS
from scipy import stats

from recascade.data.event_batch import EventBatch
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.home import home
from recascade.data.sources import resolve
from recascade.data.stream import EventStream
from recascade.data.stream_preparation import prepare_stream, read_stream_facts
from recascade.evaluation.click_metrics import auc
from recascade_cs3.catalogue import Catalogue
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.method import VARIANTS
from recascade_cs3.online import compose_online


def drop(data: str, variant: str, seed: int, deviation: float) -> tuple[float, float]:
    """AUC of the second half without and with noise."""
    model = {f"model.{key}": value for key, value in VARIANTS[variant].items()}
    settings = model | STREAMS[data] | {"stream.seed": seed, "model.backbone.user_identity": False}
    config = compose_online(data, seed, settings)
    dataset = resolve(data)
    source = prepare_stream(dataset, config.stream, home() / "streams")
    catalogue = Catalogue.of(dataset)
    learner = OnlineLearner(
        config.model, seed=seed, user_features=catalogue.user_features, item_features=catalogue.item_features
    )
    stream = EventStream(source, config.stream, GrowingVocabulary(catalogue.users), GrowingVocabulary(catalogue.items))
    middle = int(read_stream_facts(source)["events"]) // 2
    random = torch.Generator().manual_seed(seed)
    labels, clean, noisy = [], [], []
    for batch in stream.batches():
        learner.make_room(batch)
        if batch.offset >= middle:
            noisy.append(_with_noise(learner, batch, deviation, random))
            labels.append(batch.labels)
        probabilities = learner.tick(batch).probabilities
        if batch.offset >= middle:
            clean.append(probabilities)
    truth = np.concatenate(labels) > 0
    first, second = (auc(truth, np.concatenate(scores).astype(np.float64)) for scores in (clean, noisy))
    return first, second


@torch.inference_mode()
def _with_noise(learner: OnlineLearner, batch: EventBatch, deviation: float, random: torch.Generator) -> np.ndarray:
    """float32 ``[n]``: the batch's probabilities before it is learnt from, with noise on both towers' inputs."""

    def disturb(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0] + deviation * torch.randn(inputs[0].shape, generator=random),)

    backbone = learner.module.backbone
    hooks = [tower.register_forward_pre_hook(disturb) for tower in (backbone.user_tower, backbone.item_tower)]
    users, items = torch.from_numpy(batch.users), torch.from_numpy(batch.items)
    tables = learner.tables
    output = learner.module.towers(
        tables.histories.context(users), items, tables.user_inputs(users), tables.item_inputs(items)
    )
    for hook in hooks:
        hook.remove()
    return torch.sigmoid(output.logits).numpy()


def main() -> None:
    """Print the drop of each variant, and the paired difference between CAS and the base."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", default="ml-100k", choices=[name for name in STREAMS if "plant" not in name])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--deviation", type=float, default=0.1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    drops: dict[str, list[float]] = {}
    print("| variant | AUC | with noise | drop ± s.e. |\n|-|-|-|-|")
    for variant in ("base", "cas", "default"):
        pairs = np.array([drop(arguments.data, variant, seed, arguments.deviation) for seed in range(arguments.seeds)])
        drops[variant] = list(pairs[:, 0] - pairs[:, 1])
        error = stats.sem(drops[variant]) if arguments.seeds > 1 else float("nan")
        print(f"| {variant} | {pairs[:, 0].mean():.4f} | {pairs[:, 1].mean():.4f} ", end="")
        print(f"| {np.mean(drops[variant]):.5f} ± {error:.5f} |", flush=True)
    paired = np.array(drops["cas"]) - np.array(drops["base"])
    print(f"drop with CAS less drop without: {paired.mean():+.5f} ± {stats.sem(paired):.5f}")


if __name__ == "__main__":
    main()
