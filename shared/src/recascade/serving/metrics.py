"""What a service tells Prometheus: how long its answers take, how they end, and values read when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from recascade.errors import MissingDependencyError

if TYPE_CHECKING:
    from prometheus_client import Metric

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper ends of the latency histogram, seconds."""
Observe = Callable[[int, float], None]


class Metrics:
    """The measurements of one service, in a registry of its own, so that several services fit into one process.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        client = _import_client()
        self._client = client
        self._registry = client.CollectorRegistry()
        self._seconds = client.Histogram(
            "recascade_request_seconds",
            "Time from a request's arrival to its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._answers = client.Counter(
            "recascade_answers", "Answers by route and HTTP status.", ["route", "status"], registry=self._registry
        )

    def observer(self, route: str) -> Observe:
        """A function that notes one answer of a route: its HTTP status and its seconds."""
        seconds = self._seconds.labels(route)
        # Looking a label up costs more than counting.
        counters: dict[int, Any] = {}

        def observe(status: int, duration: float) -> None:
            seconds.observe(duration)
            counter = counters.get(status)
            if counter is None:
                counter = counters[status] = self._answers.labels(route, str(status))
            counter.inc()

        return observe

    def timer(self, name: str, description: str, label: str) -> Callable[[str, float], None]:
        """A function that notes seconds under a value of ``label``, in a histogram."""
        seconds = self._client.Histogram(name, description, [label], buckets=BUCKETS, registry=self._registry)

        def note(value: str, duration: float) -> None:
            seconds.labels(value).observe(duration)

        return note

    def counter(self, name: str, description: str, labels: Sequence[str]) -> Callable[..., None]:
        """A function that counts one more under these values of ``labels``."""
        count = self._client.Counter(name, description, list(labels), registry=self._registry)

        def note(*values: str) -> None:
            count.labels(*values).inc()

        return note

    def follow(self, kind: Literal["counter", "gauge"], name: str, description: str, read: Callable[[], float]) -> None:
        """Publish a number that somebody else keeps; it is read whenever Prometheus asks."""
        families = self._client.core
        family = families.CounterMetricFamily if kind == "counter" else families.GaugeMetricFamily
        self._registry.register(_Reader(lambda: family(name, description, value=read())))

    def follow_facts(self, name: str, description: str, read: Callable[[], Mapping[str, str]]) -> None:
        """Publish facts, such as versions, as labels of a metric ``NAME_info`` whose value is 1."""
        family = self._client.core.InfoMetricFamily
        self._registry.register(_Reader(lambda: family(name, description, value=dict(read()))))

    def page(self) -> bytes:
        """All measurements in Prometheus' text format."""
        page: bytes = self._client.generate_latest(self._registry)
        return page


class _Reader:
    """A collector of one metric."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield self._read()


def _import_client() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise MissingDependencyError(
            'The service measures itself with prometheus-client: pip install "recascade[serve]"'
        ) from error
    return prometheus_client
