"""What noise in the towers' inputs costs, and an outage of the store of cascade vectors.

Every prediction of the stream's second half is made once more under each disturbance; learning never sees it.
``noise``: N(0, 0.1²) is added to the inputs of both towers' first layers, as the paper is reported to do. ``outage``:
the user tower reads zeros for the cascade vectors, as a service does while the store is down; items keep theirs, as an
index does.

Run: python benchmarks/cs3_disturbances.py [ml-100k] [--seeds 5] [--deviation 0.1]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from cs3_prequential import STREAMS
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

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

Disturbance = Callable[[OnlineLearner, EventBatch], NDArray[np.float32]]


def areas(data: str, variant: str, seed: int, disturbances: dict[str, Disturbance]) -> dict[str, float]:
    """AUC of the second half: undisturbed (``none``), and under each disturbance that the variant knows."""
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
    labels: list[NDArray[np.float32]] = []
    scores: dict[str, list[NDArray[np.float32]]] = {"none": [], **{name: [] for name in disturbances}}
    for batch in stream.batches():
        measured = batch.offset >= middle
        if measured:
            labels.append(batch.labels)
            learner.make_room(batch)
            for name, disturbed in disturbances.items():
                scores[name].append(disturbed(learner, batch))
        probabilities = learner.tick(batch).probabilities
        if measured:
            scores["none"].append(probabilities)
    truth = np.concatenate(labels) > 0
    return {name: auc(truth, np.concatenate(each).astype(np.float64)) for name, each in scores.items()}


def noise(deviation: float, seed: int) -> Disturbance:
    """Gaussian noise on what both towers read."""
    random = torch.Generator().manual_seed(seed)

    def disturb(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] + deviation * torch.randn(inputs[0].shape, generator=random),)

    def scores(learner: OnlineLearner, batch: EventBatch) -> NDArray[np.float32]:
        backbone = learner.module.backbone
        hooks = [tower.register_forward_pre_hook(disturb) for tower in (backbone.user_tower, backbone.item_tower)]
        users, items = torch.from_numpy(batch.users), torch.from_numpy(batch.items)
        try:
            return _probabilities(learner, users, items, learner.tables.user_inputs(users))
        finally:
            for hook in hooks:
                hook.remove()

    return scores


def outage(learner: OnlineLearner, batch: EventBatch) -> NDArray[np.float32]:
    """Zeros in place of the users' cascade vectors, which come last among the extra inputs."""
    users, items = torch.from_numpy(batch.users), torch.from_numpy(batch.items)
    extra = learner.tables.user_inputs(users)
    if extra is not None and learner.tables.cascade is not None:
        extra = extra.clone()
        extra[:, -learner.tables.cascade.users.width :] = 0
    return _probabilities(learner, users, items, extra)


@torch.inference_mode()
def _probabilities(
    learner: OnlineLearner, users: Tensor, items: Tensor, user_extra: Tensor | None
) -> NDArray[np.float32]:
    context = learner.tables.histories.context(users)
    output = learner.module.towers(context, items, user_extra, learner.tables.item_inputs(items))
    probabilities: NDArray[np.float32] = torch.sigmoid(output.logits).numpy()
    return probabilities


def main() -> None:
    """Print each variant's AUC, undisturbed and not, and how much more or less than the base it loses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", default="ml-100k", choices=[name for name in STREAMS if "plant" not in name])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--deviation", type=float, default=0.1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lost: dict[str, NDArray[np.float64]] = {}
    print("| variant | AUC | with noise | lost ± s.e. | more than base ± s.e. | in an outage |\n|-|-|-|-|-|-|")
    for variant in ("base", "cas", "cms", "default"):
        found = [
            areas(arguments.data, variant, seed, {"noise": noise(arguments.deviation, seed), "outage": outage})
            for seed in range(arguments.seeds)
        ]
        mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        lost[variant] = np.array([each["none"] - each["noise"] for each in found])
        more = lost[variant] - lost["base"]
        print(
            f"| {variant} | {mean['none']:.4f} | {mean['noise']:.4f} "
            f"| {lost[variant].mean():.4f} ± {stats.sem(lost[variant]):.4f} "
            f"| {more.mean():+.4f} ± {stats.sem(more):.4f} | {mean['outage']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
