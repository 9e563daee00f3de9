"""``recascade bench``: a suite of runs, from a YAML file or one that ships."""

from __future__ import annotations

import click

from recascade.cli.sweeping import SweepOptions, data_option, overrides_argument, sweep_options


@click.command()
@click.argument("suite")
@overrides_argument
@data_option(required=False)
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds per trained method, instead of the suite's number.")
@sweep_options
def command(suite: str, overrides: tuple[str, ...], data: str | None, seeds: int | None, options: SweepOptions) -> int:
    """Run SUITE: the path of a YAML file, or the name of a suite that ships: demo, demo-domains, gr4ad, gr4ad-small,
    reranking.

    Settings apply to every run of the suite. An interrupted suite goes on when the same command is given again.

    Example: recascade bench demo
    """
    from recascade.bench.suite import read_suite
    from recascade.cli.sweeping import sweep
    from recascade.settings import parse_overrides

    return sweep(read_suite(suite).configs(data=data, seeds=seeds, overrides=parse_overrides(overrides)), options)
