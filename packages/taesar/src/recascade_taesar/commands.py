"""``recascade taesar``: data of one domain out of histories of several."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def commands() -> None:
    """Training data of one domain out of histories of several."""


@commands.command()
@click.argument("data")
@click.argument("output", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.argument("settings", nargs=-1, metavar="target=DOMAIN [KEY=VALUE]…")
@click.option("--variant", default="default", show_default=True, help="Variant: see 'recascade methods taesar'.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the models.")
def regenerate(data: str, output: Path, settings: tuple[str, ...], variant: str, seed: int) -> None:
    """Write the data set OUT of one domain of DATA, which any method can be run on; target=all writes OUT/DOMAIN of
    each in one pass.

    Settings are dotted keys with values: model.… as for 'recascade run taesar', split.… and trainer.accelerator. A run
    that was stopped goes on where it was.

    Example: recascade taesar regenerate amazon-crossdomain books target=Beauty model.output=union
    """
    from recascade_taesar.command import regenerate_command

    for name, path, rows in regenerate_command(data, output, settings, variant, seed):
        click.echo(f"{name}: {rows} in {path}")
