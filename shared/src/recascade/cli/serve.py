"""``recascade serve``: answer requests over HTTP from what a run has learnt."""

from __future__ import annotations

from pathlib import Path

import click

from recascade.bench.registry import find_method, installed_methods
from recascade.errors import ConfigurationError, DataError


@click.command()
@click.argument("method")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all networks.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
def command(method: str, run: Path, options: tuple[str, ...], host: str, port: int) -> None:
    """Serve METHOD from the run directory RUN until Ctrl-C or SIGTERM; requests under way are finished.

    /health and /metrics (for Prometheus) are always there; the method's page says what else it answers, and which keys
    it knows.

    Example: recascade serve cs3 runs/online --port 8000 serve.index=faiss
    """
    served = find_method(method)
    if not served.serve:
        others = [each.name for each in installed_methods().values() if each.serve]
        known = f" Methods that have one: {', '.join(others)}." if others else " No installed method has one."
        raise ConfigurationError(f"Method {method!r} has no service.{known}")
    if not run.is_dir():
        raise DataError(f"There is no run directory {run}; 'recascade run {method}' makes one.")
    from recascade.serving.http import serve
    from recascade.settings import parse_overrides

    application = served.application(run, parse_overrides(options))
    serve(application, host, port, announce=lambda url: click.echo(f"{method} answers at {url} (Ctrl-C ends it)"))
