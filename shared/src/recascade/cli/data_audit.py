"""``recascade data audit`` and ``recascade data twin``: is training data free of what is held out?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from recascade.cli.key_values import key_values
from recascade.errors import ConfigurationError, did_you_mean


@click.command("twin")
@click.argument("split", type=click.Path(path_type=Path))
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--part", "parts", multiple=True, default=("validation", "test"), show_default=True, help="Exchange these."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the exchange.")
def twin(split: Path, destination: Path, parts: tuple[str, ...], seed: int) -> None:
    """Write the log of SPLIT to DST with the held-out items of its users exchanged.

    Whatever makes training data must make the same from DST (with split.ties=file and no filters) as before:
    'recascade data audit' compares the two.
    """
    from recascade.data.split import Split
    from recascade.data.twin import write_twin

    for part in parts:
        if part not in ("validation", "test"):
            raise ConfigurationError(f"--part {part} is not held out.{did_you_mean(part, ('validation', 'test'))}")
    click.echo(f"Wrote {write_twin(Split.open(split), destination, parts=parts, seed=seed).path}.")


@click.command("audit")
@click.argument("path")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--against", required=True, metavar="SPLIT", help="Folder of a split, or a data set to be split.")
@click.option("--twin", metavar="PATH", help="Data made in the same way from the log of 'recascade data twin'.")
@click.option("--most", type=click.IntRange(min=0), default=0, show_default=True, help="Leaks that are let pass.")
def audit(path: str, settings: Sequence[str], against: str, twin: str | None, most: int) -> None:
    """Look for the held-out events of SPLIT in the training rows of the data set PATH, user by user.

    The settings are those of 'recascade data split', where SPLIT is a data set. The exit status is 1 when there are
    more leaks than --most.

    Example: recascade data audit produce --against departments
    """
    from recascade.data import audit as auditing
    from recascade.data.sources import resolve
    from recascade.data.split import MANIFEST, Split, cached_split
    from recascade.data.split_config import SplitConfig

    if (Path(against) / MANIFEST).is_file():
        split = Split.open(against)
    else:
        split = cached_split(resolve(against), SplitConfig.from_words(key_values(settings)))
    found = auditing.audit(resolve(path), split, resolve(twin) if twin else None)
    click.echo(f"{found.users_in_rows:,} of {found.users:,} users with held-out events have training rows.")
    click.echo(f"{found.guesses:,} made-up events are held-out items of {found.guessing_users:,} users.")
    for user, kind, before, item, count in found.leaks.head(20).iter_rows():
        what = {
            "event": f"has the held-out event of {item!r}",
            "transition": f"has {before!r} and the held-out {item!r} side by side",
            "twin": f"{count} rows change with the held-out events of others",
        }[kind]
        click.echo(f"  user {user!r}: {what}" + (f" ({count} times)" if count > 1 and kind != "twin" else ""))
    if found.count > most:
        click.secho(f"{found.count:,} leaks of {found.leaking_users:,} users.", fg="red")
        click.get_current_context().exit(1)
    click.echo(f"{found.count:,} leaks.")
