"""``recascade methods``: what can run here, and how to install what cannot."""

from __future__ import annotations

import click

from recascade.bench.registry import KnownMethod, broken_methods, find_method, installed_methods, missing_methods


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the methods, or describe METHOD NAME: its variants, its configuration keys and its ablation axes."""
    if name is None:
        _list()
    else:
        _describe(name)


def _list() -> None:
    methods = installed_methods()
    missing = missing_methods()
    width = max(map(len, [*methods, *missing]))
    for stage in dict.fromkeys(method.stage for method in methods.values()):
        click.secho(stage, bold=True)
        for method in methods.values():
            if method.stage == stage:
                click.echo(f"  {method.name:<{width}}  {method.summary}")
    if missing:
        click.secho("not installed", bold=True)
        for name, known in missing.items():
            click.echo(f"  {name:<{width}}  {known.summary} ({known.stage}): {KnownMethod.install_command(name)}")
    for broken in broken_methods():
        click.secho(f"  {broken.name} of {broken.distribution} does not load: {broken.problem}", fg="red")


def _describe(name: str) -> None:
    from recascade.bench.config import compose, describe_keys

    method = find_method(name)
    click.secho(f"{method.name}: {method.summary}", bold=True)
    click.echo(f"stage {method.stage}" + ("" if method.trained else ", not trained: one seed says all"))
    if method.source:
        click.echo(f"source {method.source}")
    click.echo(f"variants {', '.join(method.variants)}")
    if method.baselines:
        click.echo(f"compare with {', '.join(method.baselines)}")
    for axis, values in method.axes.items():
        click.echo(f"axis {axis}={','.join(map(str, values))}")
    click.echo("configuration keys and their defaults:")
    for key, value in describe_keys(compose(method, data="")).items():
        click.echo(f"  {key}={value}")
