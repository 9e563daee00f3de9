"""Whether data have what a method cannot do without. Importable without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from recascade.bench.config import RunConfig
from recascade.bench.registry import find_method
from recascade.contracts.method import Method, Need
from recascade.data.sources import resolve
from recascade.errors import ConfigurationError

# Need → table, column, and what to say of data that lack it.
_COLUMNS: Mapping[Need, tuple[str, str, str]] = MappingProxyType(
    {
        "times": ("interactions", "timestamp", "events with a time"),
        "texts": ("items", "text", "items with a text"),
        "domains": ("interactions", "domain", "events of several domains"),
    }
)


def check_needs(configs: Sequence[RunConfig]) -> None:
    """Refuse runs on data that lack something, before the first of them begins.

    Raises:
        ConfigurationError: naming the method, the data set and the missing column.
        DataError: data that cannot be read.
    """
    wanted = {(config.data, method.name): method for config in configs for method in methods_of(config)}
    for (data, name), method in wanted.items():
        for need in method.needs:
            table, column, words = _COLUMNS[need]
            dataset = resolve(data)
            frame = dataset.interactions() if table == "interactions" else dataset.items()
            if frame is None or column not in frame.collect_schema():
                raise ConfigurationError(
                    f"Method {name!r} needs {words}, but data set {dataset.name!r} has no column {column!r} in its "
                    f"{table}. Choose other data or another method."
                )


def methods_of(config: RunConfig) -> Iterator[Method]:
    """The method of a run, and those that its settings put together (a cascade's)."""
    yield find_method(config.method)
    for member in getattr(config.model, "members", ()):
        yield member.method
