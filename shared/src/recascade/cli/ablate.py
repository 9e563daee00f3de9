"""``recascade ablate``: one method, its settings varied along axes."""

from __future__ import annotations

import click

from recascade.cli.sweeping import SweepOptions, data_option, seeds_option, sweep_options


@click.command()
@click.argument("method")
@click.argument("axes", nargs=-1, metavar="[KEY=VALUE,VALUE…]…")
@data_option(required=True)
@click.option("--variant", default="default", show_default=True, help="Variant of the method that is varied.")
@click.option("--one-factor", is_flag=True, help="Change one axis at a time instead of the full grid.")
@seeds_option
@sweep_options
def command(
    method: str,
    axes: tuple[str, ...],
    data: str,
    variant: str,
    one_factor: bool,
    seeds: int,
    options: SweepOptions,
) -> int:
    """Run METHOD for every combination of the axes' values.

    An axis is a key with several values, as model.blocks=1,2,3; a key with one value holds for all runs. The keys of
    the method's own configuration may be written without 'model.', and 'variant' is an axis too. Without an axis, those
    that the method declares are varied one at a time.

    Example: recascade ablate sasrec model.dropout=0.1,0.3 model.heads=1,2 --data completejourney --seeds 3
    """
    from recascade.bench.ablation import ablation_configs
    from recascade.cli.sweeping import sweep

    return sweep(ablation_configs(method, axes, data, variant, seeds, one_factor), options)
