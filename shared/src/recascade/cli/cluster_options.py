"""``--runner`` and ``--ray-address``: whether this machine or a Ray cluster does the work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, handed to the command as ``runner`` (``local`` or ``ray``) and ``ray_address`` (None starts one)."""

    @click.option(
        "--runner",
        type=click.Choice(("local", "ray")),
        help="What does the work: this machine, or a Ray cluster.  [default: local, or ray with --ray-address]",
    )
    @click.option(
        "--ray-address", metavar="ADDRESS", help="A Ray cluster that runs: auto, HOST:PORT or ray://HOST:PORT."
    )
    @functools.wraps(command)
    def with_options(*arguments: Any, runner: str | None, ray_address: str | None, **others: Any) -> Any:
        if ray_address is not None and runner == "local":
            raise click.UsageError("--ray-address names a Ray cluster, but --runner is local; leave one of them out.")
        runner = runner or ("local" if ray_address is None else "ray")
        return command(*arguments, runner=runner, ray_address=ray_address, **others)

    return with_options
