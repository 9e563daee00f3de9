"""``recascade new-method``: a package to begin a method from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="this folder",
    help="Where to write; a checkout of recascade is recognised, and the method is put into it.",
)
def command(name: str, folder: Path) -> None:
    """Write a package that works and is tested: a small next-item model to put your own in the place of.

    In a checkout of recascade it becomes packages/NAME, tests/NAME and docs/NAME.md, and pyproject.toml and mkdocs.yml
    learn of it; elsewhere it becomes one folder NAME of its own.

    Example: recascade new-method mine
    """
    from recascade.cli.checkout import is_checkout, register
    from recascade.cli.skeleton import Names, write_skeleton

    names = Names.of(name)
    inside = is_checkout(folder)
    for path in write_skeleton(names, folder, inside):
        click.echo(f"Wrote {path}")
    if inside:
        for path in register(names, folder):
            click.echo(f"Changed {path}")
        click.echo(f"Install it with: pip install --no-deps --editable {folder / 'packages' / names.name}")
    else:
        click.echo(f"Install it with: pip install --editable {folder / names.name}")
    click.echo(f"Then: recascade run {names.name} --data NAME")
