"""``recascade gr4ad``: ads on top of a catalogue that has none."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def commands() -> None:
    """Generative retrieval of ads."""


@commands.command()
@click.argument("data")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--clones", type=float, default=0.1, show_default=True, help="Share of the items that get a clone.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Everything derives from it.")
def simulate(data: str, destination: Path, clones: float, seed: int) -> None:
    """Write DATA with simulated ads to the new folder DESTINATION: advertisers, conversion types, bids, and clones that
    only business fields tell from their originals. The result is labelled synthetic wherever it is used.

    Example: recascade gr4ad simulate amazon-beauty data/beauty-ads
    """
    from recascade.data.sources import resolve
    from recascade_gr4ad.ad_simulator import simulate_ads

    written = simulate_ads(resolve(data), destination, clones=clones, seed=seed)
    facts = written.facts["simulated"]
    click.echo(f"{written.name}: {facts['clones']:,} clones, seed {seed} (synthetic data)")
