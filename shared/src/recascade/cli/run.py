"""``recascade run``: one method on one data set, over some seeds."""

from __future__ import annotations

import click

from recascade.cli.sweeping import SweepOptions, data_option, overrides_argument, seeds_option, sweep_options


@click.command()
@click.argument("method")
@overrides_argument
@data_option(required=True)
@click.option("--variant", default="default", show_default=True, help="Variant of the method.")
@seeds_option
@sweep_options
def command(method: str, overrides: tuple[str, ...], data: str, variant: str, seeds: int, options: SweepOptions) -> int:
    """Run METHOD and measure it on the test part; finished seeds are never run again.

    Settings are dotted keys with values, as trainer.max_epochs=5 split.ties=file model.dimension=128; 'recascade
    methods METHOD' lists them all.

    Example: recascade run sasrec --data completejourney --seeds 2 split.protocol=last-basket split.ties=group
    """
    from recascade.bench.suite import configs_of
    from recascade.cli.sweeping import sweep
    from recascade.settings import parse_overrides

    return sweep(configs_of(method, data, variant, seeds, parse_overrides(overrides)), options)
