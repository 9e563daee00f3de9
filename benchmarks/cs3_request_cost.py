"""CPU cost of one request with CS3 and without: parsing, table reads, user tower, search over 100,000 items, JSON.

Run: python benchmarks/cs3_request_cost.py [--requests 2000] [--repetitions 3] [--items 100000] [--users 20000]

All services run in one process and are asked in turn, each request of all of them, in a random order. A request enters
as the bytes of ``GET /recommend`` into uvicorn's own protocol and ends with the bytes of the answer; only the socket is
missing. Times are CPU times of the process, one thread computing at a time. CS3 is the serving preset (cycles in the
user tower alone, not in its first layer). Users are encoded ahead, as the service does unless told otherwise, or by
each request, with cascade vectors in an in-process store. Weights and vectors are random, since cost does not depend on
them; all services search one index for the same queries: random directions in 16 or 64 dimensions, which nothing can
prune much, and clustered ones, which an inverted file prunes best (the hardest base to add anything to).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable

import numpy as np
import torch
import uvicorn
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from recascade.contracts.retriever import TopK
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.serving.embedding_store import InProcessStore
from recascade.serving.faiss_index import FaissIndex
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.http import application
from recascade.serving.metrics import Metrics
from recascade.serving.one_thread import compute_on_one_thread
from recascade_cs3.config import CS3Config
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.serve import write_cascade_vectors
from recascade_cs3.service import CS3Service
from recascade_cs3.serving_model import ServingModel
from recascade_cs3.snapshot import Snapshot, encode_users

LENGTH = 100
TOWERS = {"64-32-16": ([64, 32], 16, 16), "512-256-128-64": ([512, 256, 128], 64, 64)}


def learner(tower: str, cs3: bool, users: int, items: int) -> OnlineLearner:
    """Towers with random weights, and with random vectors in their tables."""
    hidden, dimension, width = TOWERS[tower]
    config = CS3Config()
    config.backbone.hidden, config.backbone.dimension, config.backbone.embedding_dimension = hidden, dimension, width
    config.ranker.width = width
    config.cas.enabled = config.cts.enabled = config.cms.enabled = cs3
    config.cas.item, config.cas.input_layer, config.cas.zero_gate = False, False, False
    result = OnlineLearner(config, seed=0)
    result.grow(users, items)
    for means in result.tables.user_means:
        means.values[1:] = torch.randn(users, means.width).tanh()
    return result


def item_vectors(kind: str, count: int, dimension: int) -> Tensor:
    """Unit vectors, ``random`` or ``clustered`` around 300 centres."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(count, dimension, generator=generator)
    if kind == "clustered":
        centres = torch.randn(300, dimension, generator=generator)
        points = centres[torch.randint(300, (count,), generator=generator)] + 0.4 * points
    return normalize(points, dim=1)


class FixedQueries(FaissIndex):
    """Searches for queries of its own, in turn, whatever it is asked: towers that know nothing ask for nothing special,
    and two towers that ask for different things would be charged for different searches."""

    queries: Tensor
    asked = 0

    def search(self, queries: Tensor, k: int) -> TopK:
        """One query of the list."""
        self.asked = (self.asked + 1) % len(self.queries)
        return super().search(self.queries[self.asked : self.asked + 1], k)


def index_of(vectors: Tensor) -> FixedQueries:
    """All items. The number of queries is odd, so that services that take turns are all asked all of them."""
    index = FixedQueries(vectors.shape[1])
    index.upsert(torch.arange(len(vectors)), vectors)
    index.queries = normalize(vectors[:299] + 0.1 * torch.randn(299, vectors.shape[1]), dim=1)
    index.tune(index.queries)
    return index


def services(tower: str, index: FixedQueries, users: int) -> dict[str, CS3Service]:
    """Plain and with CS3, with users encoded ahead and by requests.

    All search one index: two copies of the same vectors, in other pages of memory, differ by up to a fifth in time.
    """
    names = GrowingVocabulary([f"user{row}" for row in range(users)], kind="user")
    rows = {name: row for row, name in enumerate(names.ids.to_list())}
    items = [f"item{row}" for row in range(len(index))]
    result = {}
    for name, cs3 in (("plain", False), ("CS3", True)):
        trained = learner(tower, cs3, users, len(index))
        model = ServingModel(trained)
        cascade, cross = trained.tables.cascade, trained.tables.cross
        snapshot = Snapshot(
            model=model,
            index=index,
            index_version=model.version,
            tables=0,
            users=rows,
            items=items,
            cross=None if cross is None else cross.users.values.numpy(),
            cascade_width=0 if cascade is None else cascade.users.width,
            histories=None,
        )
        store = None if cascade is None else FallbackStore(InProcessStore(cascade.users.width))
        if store is not None:
            write_cascade_vectors(trained, names, GrowingVocabulary(), store)
        result[f"{name} by requests"] = CS3Service(snapshot, store)
        result[f"{name} ahead"] = CS3Service(encode_users(snapshot, trained))
    return result


class Connection(asyncio.Transport):
    """Takes the bytes of one answer and says when it is whole."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.answered = loop.create_future()

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        """The head comes first, the body last."""
        if bytes(data[:8]) != b"HTTP/1.1" and not self.answered.done():
            self.answered.set_result(data)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Needed by uvicorn."""


class Wire:
    """One connection to one service."""

    def __init__(self, served: CS3Service, loop: asyncio.AbstractEventLoop) -> None:
        app = application(served.routes(), Metrics(), threads=1)
        config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False, lifespan="off")
        config.load()
        self.loop = loop
        self.transport = Connection(loop)
        self.protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
        self.protocol.connection_made(self.transport)

    def ask(self, user: str) -> None:
        """One request, from bytes to bytes."""
        self.transport.answered = self.loop.create_future()
        line = f"GET /recommend?user={user}&k={LENGTH} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n"
        self.protocol.data_received(line.encode())
        answer = self.loop.run_until_complete(self.transport.answered)
        if b'"items"' not in answer[:400]:
            raise RuntimeError(answer[:400])


def measure(parts: dict[str, Callable[[str], object]], users: int, requests: int) -> dict[str, np.ndarray]:
    """CPU microseconds of each part for the same users, asked in turn."""
    gc.collect()
    gc.freeze()
    names = list(parts)
    times = {name: np.empty(requests) for name in names}
    order = np.random.default_rng(0)
    for number in range(-200, requests):
        user = f"user{(number * 7919) % users}"
        for name in order.permutation(names):
            start = time.process_time_ns()
            parts[name](user)
            if number >= 0:
                times[name][number] = (time.process_time_ns() - start) / 1e3
    return times


def parts_of(served: CS3Service, wire: Wire) -> dict[str, Callable[[str], object]]:
    """What is measured of one service."""
    snapshot, store = served.snapshot, served.store

    def read(user: str) -> NDArray[np.float32] | None:
        return store.read("user", [user]).vectors if store is not None else None

    return {
        "user's vector": lambda user: snapshot.user_vectors(snapshot.rows([user]), read(user)),
        "service": lambda user: served.recommend([user], LENGTH),
        "request": wire.ask,
    }


def table(tower: str, kind: str, arguments: argparse.Namespace) -> None:
    """Print all parts of all services, and what CS3 adds: the median over repetitions, and their range."""
    loop = asyncio.new_event_loop()
    index = index_of(item_vectors(kind, arguments.items, TOWERS[tower][1]))
    parts = {
        name: parts_of(served, Wire(served, loop)) for name, served in services(tower, index, arguments.users).items()
    }
    scan = "exact" if index.exact else "inverted file"
    print(f"\ntower {tower}, {arguments.items:,} {kind} items ({scan}), k={LENGTH}, {arguments.requests} requests")
    print(f"{'CPU µs':36}" + "".join(f"{label:>40}" for label in ("p50", "p99")))
    # Each part in a loop of its own, so that a part's neighbours in time are its own kind.
    for part in ("user's vector", "service", "request"):
        chosen = {name: functions[part] for name, functions in parts.items()}
        repeated = [measure(chosen, arguments.users, arguments.requests) for _ in range(arguments.repetitions)]
        for way in ("ahead", "by requests"):
            cells = []
            for share in (50, 99):
                plain, cs3 = (
                    np.array([np.percentile(times[f"{name} {way}"], share) for times in repeated])
                    for name in ("plain", "CS3")
                )
                more = cs3 / plain - 1
                cells.append(
                    f"{np.median(plain):7.0f} → {np.median(cs3):5.0f} "
                    f"({np.median(more):+6.1%}, {more.min():+.1%} to {more.max():+.1%})"
                )
            print(f"{part + ', users ' + way:36}" + "".join(f"{cell:>40}" for cell in cells), flush=True)


def main() -> None:
    """Parse the arguments and print a table per tower and kind of items."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    arguments = parser.parse_args()
    compute_on_one_thread()
    for tower in TOWERS:
        for kind in ("random", "clustered"):
            table(tower, kind, arguments)


if __name__ == "__main__":
    main()
