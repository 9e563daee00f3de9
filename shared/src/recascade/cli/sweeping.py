"""What ``run``, ``bench`` and ``ablate`` share: their options, the display of a sweep, and the table at its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recascade.cli.cluster_options import cluster_options

if TYPE_CHECKING:
    from recascade.bench.config import RunConfig
    from recascade.bench.runner import Runner
    from recascade.bench.sweep import Sweep

_Command = TypeVar("_Command", bound=Callable[..., Any])

_INTERRUPTED = 130
_USUAL_METRIC = "ndcg@10"


@dataclass(frozen=True)
class SweepOptions:
    """The common options of commands that compute runs.

    Attributes:
        output: folder of the results.
        jobs: runs at a time; None for as many as there are cores, or as a cluster has room for.
        threads: CPU threads of each run; None shares the cores out, or gives one on a cluster.
        metric: test metric that orders the leaderboard; None for the usual one.
        runner: ``local`` or ``ray``.
        ray_address: of a Ray cluster that runs; None starts one on this machine.
        tries: how often a run on a cluster is begun when its process or machine is lost.
    """

    output: Path
    jobs: int | None = None
    threads: int | None = None
    metric: str | None = None
    runner: str = "local"
    ray_address: str | None = None
    tries: int = 5


def data_option(*, required: bool) -> Callable[[_Command], _Command]:
    """``--data``."""
    return click.option(
        "--data", required=required, metavar="NAME|PATH", help="A data set: see 'recascade data list', or a folder."
    )


def overrides_argument(command: _Command) -> _Command:
    """``key=value …``."""
    return click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]…")(command)


def seeds_option(command: _Command) -> _Command:
    """``--seeds``."""
    return click.option(
        "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds 0, 1, … of a trained method."
    )(command)


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``SweepOptions``, handed to the command as ``options``."""

    @click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of the results.",
    )
    @click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: one per core; 1 with a GPU]")
    @click.option("--threads", type=click.IntRange(min=1), help="CPU threads per run.  [default: the cores shared out]")
    @click.option("--metric", help="Test metric that orders the table.  [default: ndcg@10]")
    @cluster_options
    @click.option(
        "--tries",
        type=click.IntRange(min=1),
        default=SweepOptions.tries,
        show_default=True,
        help="How often Ray begins a run whose process or machine is lost.",
    )
    @functools.wraps(command)
    def with_options(*arguments: Any, **values: Any) -> Any:
        chosen = {field.name: values.pop(field.name) for field in fields(SweepOptions)}
        return command(*arguments, options=SweepOptions(**chosen), **values)

    return with_options


def sweep(configs: Sequence[RunConfig], options: SweepOptions) -> int:
    """Compute the runs that are not finished, show how they come along, and print the leaderboard.

    Returns:
        The exit status: 0, 1 when a run failed, 130 when interrupted.
    """
    from recascade.bench.sweep import compute, lay_out
    from recascade.cli.display import SweepDisplay, print_leaderboards

    metric = _metric(configs, options.metric)
    plan = lay_out(configs, options.output, lambda data: click.echo(f"Preparing {data} …", err=True))
    runner = _runner(options, len(plan.runs))
    done = len(plan.finished_runs)
    if done:
        click.echo(f"{done} of {len(plan.runs)} runs are finished already and are kept.", err=True)
    with SweepDisplay(total=len(plan.runs), done=done, metric=metric) as display:
        try:
            compute(plan, runner, display.watch, display.pulse)
        except KeyboardInterrupt:
            display.stop()
            click.echo(_how_to_go_on(plan), err=True)
            return _INTERRUPTED
    if plan.finished_runs:
        print_leaderboards(plan, options.output, metric)
    for directory, problem in display.failures.items():
        click.secho(f"Failed: {directory}: {problem}", fg="red", err=True)
    return 1 if display.failures else 0


def _runner(options: SweepOptions, runs: int) -> Runner:
    from recascade.bench.ray_runner import RayRunner
    from recascade.bench.runner import LocalRunner, available_cores

    if options.runner == "ray":
        return RayRunner(
            address=options.ray_address,
            threads=options.threads or 1,
            jobs=options.jobs,
            cpus=available_cores(),
            tries=options.tries,
        )
    jobs = options.jobs or (1 if _has_gpu() else available_cores())
    # Shared out over all runs of the sweep, the finished ones included, so that a resumed run computes as it began.
    processes = min(jobs, runs)
    return LocalRunner(processes, options.threads or max(1, available_cores() // processes))


def _metric(configs: Sequence[RunConfig], wanted: str | None) -> str:
    """The metric that orders the table; it must be one that every run measures.

    Raises:
        ConfigurationError: it is not.
    """
    from recascade.errors import ConfigurationError, did_you_mean

    if wanted is None:
        asked = set.intersection(*map(_asked, configs))
        return _USUAL_METRIC if _USUAL_METRIC in asked else min(asked, default=_USUAL_METRIC)
    measured = set.intersection(*map(_measured, configs))
    if wanted not in measured:
        raise ConfigurationError(f"--metric {wanted} is not measured by every run.{did_you_mean(wanted, measured)}")
    return wanted


def _asked(config: RunConfig) -> set[str]:
    """The metrics that the settings of a run name."""
    return {f"{name}@{k}" for name in config.evaluation.metrics for k in config.evaluation.cutoffs}


def _measured(config: RunConfig) -> set[str]:
    """All metrics of a run that an order may follow; some are there only where users repeat items, or where a re-ranker
    has scores."""
    from recascade.evaluation.config import RESTRICTED_METRICS, RESTRICTIONS

    cutoffs = config.evaluation.cutoffs
    if config.lists is not None:
        return _asked(config) | {f"ild@{k}" for k in cutoffs if k > 1} | {"auc", "gauc"}
    restricted = {f"{name}@{k}/{kind}" for name in RESTRICTED_METRICS for k in cutoffs for kind in RESTRICTIONS}
    return _asked(config) | restricted


def _how_to_go_on(plan: Sweep) -> str:
    return (
        f"Interrupted: {len(plan.finished_runs)} of {len(plan.runs)} runs are finished and kept; "
        "the same command goes on from there."
    )


def _has_gpu() -> bool:
    """Asked without importing torch, which the command itself does not need."""
    return Path("/dev/nvidiactl").exists()
