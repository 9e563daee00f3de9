"""Find the methods that are installed: the entry-point group ``recascade.methods``. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from recascade.contracts.method import Method, Stage
from recascade.errors import ConfigurationError, MissingDependencyError, did_you_mean

GROUP = "recascade.methods"


@dataclass(frozen=True)
class KnownMethod:
    """A method of this project that comes in a distribution of its own.

    Attributes:
        stage: the stage of the cascade it serves.
        summary: one line for ``recascade methods``.
    """

    stage: Stage
    summary: str

    @staticmethod
    def install_command(name: str) -> str:
        """What to type to get method ``name``."""
        return f'pip install "recascade[{name}]"'


KNOWN_METHODS: Mapping[str, KnownMethod] = MappingProxyType(
    {
        "taesar": KnownMethod("data", "regenerates a target domain's sequences from several domains"),
        "cs3": KnownMethod("retrieval", "online capability synergy between two towers"),
        "gr4ad": KnownMethod("retrieval", "generative retrieval for advertising"),
        "recast": KnownMethod("retrieval", "reinforcement learning that post-trains a generative retriever"),
        "relaygr": KnownMethod("ranking", "ranking over long histories with a prefix computed ahead"),
        "psad": KnownMethod("re-ranking", "semi-autoregressive re-ranking with online knowledge distillation"),
    }
)


@dataclass(frozen=True)
class BrokenMethod:
    """An installed method that cannot be loaded, with the sentence that says why."""

    name: str
    distribution: str
    problem: str


@cache
def _discover() -> tuple[dict[str, Method], tuple[BrokenMethod, ...]]:
    methods: dict[str, Method] = {}
    owners: dict[str, EntryPoint] = {}
    broken: list[BrokenMethod] = []
    # The same distribution may lie twice on the path (a checkout and an install): the first one wins, as for imports.
    points = {(point.name, point.value): point for point in reversed(list(entry_points(group=GROUP)))}
    for point in sorted(points.values(), key=lambda point: (point.name, point.value)):
        distribution = point.dist.name if point.dist is not None else "an unknown distribution"
        try:
            method = point.load()
        except Exception as error:  # A third party's package may fail in any way; the other methods must stay usable.
            broken.append(BrokenMethod(point.name, distribution, f"{point.value} cannot be imported: {error}."))
            continue
        if not isinstance(method, Method):
            problem = f"{point.value} is a {type(method).__name__}, not a recascade.contracts.method.Method."
            broken.append(BrokenMethod(point.name, distribution, problem))
            continue
        if method.name in methods:
            first = owners[method.name]
            raise ConfigurationError(
                f"Two installed packages register a method called {method.name!r}: {first.value} and {point.value}. "
                "Uninstall one of them."
            )
        methods[method.name] = method
        owners[method.name] = point
    return methods, tuple(broken)


def installed_methods() -> dict[str, Method]:
    """All methods that can run here, by name, in order of their names.

    Raises:
        ConfigurationError: two packages register the same name.
    """
    methods, _ = _discover()
    return dict(sorted(methods.items()))


def broken_methods() -> tuple[BrokenMethod, ...]:
    """Registered methods that failed to load."""
    return _discover()[1]


def missing_methods() -> dict[str, KnownMethod]:
    """This project's own methods that are not installed, by name."""
    methods, _ = _discover()
    return {name: known for name, known in KNOWN_METHODS.items() if name not in methods}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        MissingDependencyError: it is one of this project's methods and is not installed.
        ConfigurationError: nobody registers that name, or its package fails to load.
    """
    methods, broken = _discover()
    if name in methods:
        return methods[name]
    for method in broken:
        if method.name == name:
            raise ConfigurationError(
                f"Method {name!r} of {method.distribution} is installed but does not load: {method.problem}"
            )
    if name in KNOWN_METHODS:
        raise MissingDependencyError(
            f"Method {name!r} is not installed. Install it with: {KnownMethod.install_command(name)}"
        )
    raise ConfigurationError(f"There is no method {name!r}.{did_you_mean(name, [*methods, *KNOWN_METHODS])}")
