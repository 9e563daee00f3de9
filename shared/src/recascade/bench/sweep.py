"""Many runs: lay out their directories, leave out what is finished, hand the rest to a runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recascade.bench.config import RunConfig, same_run, save
from recascade.bench.ground import Ground, ground_of_split
from recascade.bench.list_source import prepared_lists
from recascade.bench.needs import check_needs
from recascade.bench.run_sources import check_sources
from recascade.bench.runner import Event, Runner
from recascade.bench.store import CONFIG_FILE, Run, run_directory
from recascade.data.encode import encode
from recascade.data.sources import resolve
from recascade.data.split import cached_split
from recascade.errors import ConfigurationError


@dataclass(frozen=True)
class Sweep:
    """Runs laid out on disk.

    Attributes:
        runs: all of them, in the order asked for, each directory once.
        grounds: the splits and lists they are measured on.
    """

    runs: tuple[Run, ...]
    grounds: tuple[Ground, ...]

    @property
    def open_runs(self) -> tuple[Run, ...]:
        """The runs still to be computed: interrupted, failed or new ones."""
        return tuple(run for run in map(_read_again, self.runs) if run.state != "finished")

    @property
    def finished_runs(self) -> tuple[Run, ...]:
        """The runs whose results are there."""
        return tuple(run for run in map(_read_again, self.runs) if run.state == "finished")


def lay_out(configs: Sequence[RunConfig], output: Path, on_split: Callable[[str], None]) -> Sweep:
    """Make the splits and lists (once for all runs that share them) and write each run's ``config.yaml``
    and ``sources.json``.

    Args:
        configs: the runs; two that come to the same thing are one run.
        output: folder of all results.
        on_split: told the data set's name before it is read, which can take a while.

    Raises:
        DataError: data that cannot be read or split.
        ConfigurationError: data lack what a method needs, or a run's directory holds a run with another configuration
            or of other files.
    """
    check_needs(configs)
    grounds: dict[tuple[str, str], Ground] = {}
    runs: dict[Path, Run] = {}
    for config in configs:
        key = (config.data, str((asdict(config.split), config.lists)))
        if key not in grounds:
            on_split(config.data)
            grounds[key] = _prepared(config)
        ground = grounds[key]
        directory = run_directory(output, ground.name, ground.fingerprint, config)
        if directory not in runs:
            _write_config(config, directory / CONFIG_FILE)
            check_sources(config, ground, directory)
            runs[directory] = Run(directory)
    return Sweep(tuple(runs.values()), tuple(grounds.values()))


def _prepared(config: RunConfig) -> Ground:
    """Split and encode, or make the lists: once here, because otherwise every process of the sweep would begin with the
    same work."""
    if config.lists is not None:
        return prepared_lists(config).ground
    return ground_of_split(encode(cached_split(resolve(config.data), config.split)).manifest)


def compute(sweep: Sweep, runner: Runner, watch: Callable[[Event], None], pulse: Callable[[], None]) -> None:
    """Compute the open runs of a sweep; what is finished is never computed again."""
    runner.run([run.directory for run in sweep.open_runs], watch, pulse)


def _write_config(config: RunConfig, path: Path) -> None:
    if not path.exists():
        save(config, path)
        return
    begun = Run(path.parent).config
    different = same_run(config, begun)
    if different == ["data"]:
        raise ConfigurationError(
            f"{path.parent} was begun with --data {begun.data}, which holds the same events as {config.data}; give the "
            "same --data, or choose another --output."
        )
    if different:
        raise ConfigurationError(
            f"{path.parent} holds a run that differs in {', '.join(different)} (made by another version or edited by "
            "hand); choose another --output or delete that folder."
        )


def _read_again(run: Run) -> Run:
    """A run object remembers what it read; a new one sees what has been written since."""
    return Run(run.directory)
