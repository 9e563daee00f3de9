"""``recascade data``: list, fetch, import, inspect, filter, split and audit data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recascade.cli import data_audit, data_fetch
from recascade.cli.cluster_options import cluster_options
from recascade.cli.key_values import key_values
from recascade.errors import did_you_mean

if TYPE_CHECKING:
    from recascade.data.dataset import Dataset
    from recascade.data.inspect import Inspection
    from recascade.data.log_summary import LogSummary
    from recascade.data.split import Split

COMMANDS = ("list", "fetch", "import", "inspect", "filter", "domains", "split", "twin", "audit")


class _Group(click.Group):
    """Names the nearest subcommand in the message about an unknown one."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            context.fail(f"There is no command 'data {arguments[0]}'.{did_you_mean(arguments[0], COMMANDS)}")
        return super().resolve_command(context, arguments)


@click.group(cls=_Group, no_args_is_help=True)
def command() -> None:
    """Bring events in, look at them, filter and split them.

    PATH is a folder of Parquet files, or a name that 'recascade data list' knows.
    """


command.add_command(data_fetch.fetch)
command.add_command(data_audit.twin)
command.add_command(data_audit.audit)


@command.command("list")
def list_sources() -> None:
    """List the data sets that a name is enough for, and the adapters that import others."""
    from recascade.data.adapters.registry import ADAPTERS
    from recascade.data.sources import known_sources

    click.secho("data sets", bold=True)
    sources = known_sources()
    width = max(len(source.name) for source in sources)
    for source in sources:
        click.echo(f"  {source.name:<{width}}  {source.path or source.note}")
    click.echo("  Others: give a path, or put their folders into one named by the environment variable RECASCADE_DATA.")
    click.echo("  Public sets to fetch: 'recascade data fetch --list'.")
    click.secho("adapters (recascade data import ADAPTER SRC DST)", bold=True)
    width = max(map(len, ADAPTERS))
    for adapter in ADAPTERS.values():
        click.echo(f"  {adapter.name:<{width}}  {adapter.summary}")
        for key, meaning in adapter.options.items():
            click.echo(f"  {'':<{width}}    {key}=…  {meaning}")


@command.command("import")
@click.argument("adapter")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--name", default="", help="Name of the data set in results; default: that of DST.")
@cluster_options
def import_(
    adapter: str,
    source: str,
    destination: Path,
    options: Sequence[str],
    name: str,
    runner: str,
    ray_address: str | None,
) -> None:
    """Turn SRC, in the format of ADAPTER, into the canonical folder DST.

    SRC is a path, or an address such as s3://bucket/log.csv.gz that is copied first.
    'recascade data list' shows the adapters with their options. Example: recascade data import delimited log.csv shop
    user=customer item=sku timestamp=bought_at

    With --runner ray, SRC may be a folder of files or a pattern, as 'logs/*.csv.gz'; each file is read by one core.
    """
    words = key_values(options)
    if runner == "ray":
        from recascade.data.cluster_import import import_on_cluster

        dataset = import_on_cluster(adapter, source, destination, words, name, ray_address)
    else:
        from recascade.data.adapters.registry import import_dataset

        dataset = import_dataset(adapter, source, destination, words, name)
    counts = dataset.facts["counts"]
    click.echo(
        f"Wrote {counts['interactions']:,} events of {counts['users']:,} users and {counts['items']:,} items "
        f"to {destination}."
    )
    click.echo(f"Look at it with: recascade data inspect {destination}")


@command.command("inspect")
@click.argument("path")
def inspect_(path: str) -> None:
    """Describe the data set PATH, and warn of what a fair comparison on it must know.

    The exit status is 2 when something in it must be mended before it can be used.
    """
    from recascade.data.inspect import inspect
    from recascade.data.sources import resolve

    dataset = resolve(path)
    inspection = inspect(dataset)
    _show(dataset, inspection)
    if any(finding.severity == "error" for finding in inspection.findings):
        click.get_current_context().exit(2)


@command.command("filter")
@click.argument("path")
@click.option("--k-core", type=click.IntRange(min=0), default=0, metavar="N", help="Both minimums at once.")
@click.option("--user-min-events", type=click.IntRange(min=0), metavar="N", help="Events a user needs to stay.")
@click.option("--item-min-events", type=click.IntRange(min=0), metavar="N", help="Events an item needs to stay.")
@click.option("--since", default="", metavar="TIME", help="Drop events before this date, time or second.")
@click.option("--until", default="", metavar="TIME", help="Drop events from this date, time or second on.")
@click.option(
    "--deduplicate",
    default="none",
    metavar="RULE",
    help="none; exact (same user, item, time); first or last of each user and item.",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="New folder; default: NAME-filtered in this folder."
)
@cluster_options
def filter_(
    path: str,
    k_core: int,
    user_min_events: int | None,
    item_min_events: int | None,
    since: str,
    until: str,
    deduplicate: str,
    output: Path | None,
    runner: str,
    ray_address: str | None,
) -> None:
    """Write the events of PATH that pass the time window, then deduplication, then the k-core."""
    from recascade.data.cluster_filters import write_filtered_on_cluster
    from recascade.data.filters import write_filtered
    from recascade.data.sources import resolve
    from recascade.data.split_config import SplitConfig

    config = SplitConfig(
        since=since,
        until=until,
        deduplicate=deduplicate,
        user_min_events=k_core if user_min_events is None else user_min_events,
        item_min_events=k_core if item_min_events is None else item_min_events,
    )
    config.check()
    dataset = resolve(path)
    destination = output or Path(f"{dataset.name}-filtered")
    if runner == "ray":
        filtered = write_filtered_on_cluster(dataset, config, destination, ray_address)
    else:
        filtered = write_filtered(dataset, config, destination)
    for step, count in filtered.facts["counts"].items():
        click.echo(f"{step.replace('_', ' '):<24}{count:>14,}")
    click.echo(f"Wrote {filtered.path}.")


@command.command("split")
@click.argument("path")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="New folder; default: the cache, where 'recascade run' with the same settings finds it.",
)
def split_(path: str, settings: Sequence[str], output: Path | None) -> None:
    """Split PATH into training, validation and test, and print the fingerprint of the split.

    The settings are those that 'recascade run' takes as split.KEY=VALUE. Example: recascade data split amazon-beauty
    protocol=leave-one-out ties=file
    """
    from recascade.data.sources import resolve
    from recascade.data.split import cached_split, make_split
    from recascade.data.split_config import SplitConfig

    config = SplitConfig.from_words(key_values(settings))
    dataset = resolve(path)
    _show_split(make_split(dataset, config, output) if output else cached_split(dataset, config))


@command.command("domains")
@click.argument("path")
@click.argument("column")
@click.option("--keep", multiple=True, metavar="VALUE", help="Keep this value alone; may be given several times.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="New folder; default: NAME-domains in this folder."
)
def domains_(path: str, column: str, keep: Sequence[str], output: Path | None) -> None:
    """Write PATH with domains: to each event the value of COLUMN of its item.

    Example: recascade data domains completejourney department --keep PRODUCE --keep MEAT
    """
    from recascade.data.domains import with_domains
    from recascade.data.sources import resolve

    dataset = resolve(path)
    click.echo(f"Wrote {with_domains(dataset, column, output or Path(f'{dataset.name}-domains'), keep).path}.")


def _show_split(split: Split) -> None:
    manifest = split.manifest
    rules = f"{manifest.config.protocol}, ties={manifest.config.ties}, catalogue={manifest.config.catalogue}"
    click.secho(f"split {manifest.fingerprint} of {manifest.dataset}", bold=True)
    click.echo(f"{rules}, cold_items={manifest.config.cold_items}")
    for name, count in manifest.counts.items():
        click.echo(f"  {name.replace('_', ' '):<28}{count:>14,}")
    for name, seconds in manifest.times.items():
        click.echo(f"  {name.replace('_', ' '):<28}{_moment(seconds):>14}")
    click.echo(f"  {'tied test targets':<28}{manifest.tied_target_share:>14.1%}")
    click.echo(f"Written to {split.path}.")


def _show(dataset: Dataset, inspection: Inspection) -> None:
    click.secho(f"{dataset.name}{' (synthetic)' if dataset.synthetic else ''}", bold=True)
    click.echo(f"  path         {dataset.path}")
    click.echo(f"  fingerprint  {dataset.fingerprint}")
    click.echo(f"  terms        {dataset.terms or 'not recorded'}")
    for table in inspection.tables:
        click.secho(f"{table.name}.parquet, {table.rows:,} rows", bold=True)
        width = max(map(len, table.columns))
        for column, (dtype, nulls) in table.columns.items():
            click.echo(f"  {column:<{width}}  {dtype}{f', {nulls:,} null' if nulls else ''}")
    if inspection.log is not None:
        _show_log(inspection.log)
    for finding in inspection.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        click.secho(f"{finding.severity}: {finding.table}.parquet, {finding.column}: {finding.sentence}", fg=colour)


def _show_log(log: LogSummary) -> None:
    click.secho("log", bold=True)
    facts = {
        "events": f"{log.events:,}",
        "users": f"{log.users:,}",
        "items": f"{log.items:,}",
        "events per user": ", ".join(f"{name} {value:,}" for name, value in log.lengths.items()),
        "repeated user-item pairs": f"{log.repeat_share:.1%} of events",
        "exact duplicates": f"{log.duplicates:,}",
        "neighbours at equal times": f"{log.tied_share:.1%}",
    }
    if log.tied_share:
        facts["ascending among them"] = f"{log.tied_ascending_share:.1%} in order of the item identifier"
    if log.first_time is not None and log.last_time is not None:
        facts["from"], facts["to"] = _moment(log.first_time), _moment(log.last_time)
    for name, value in facts.items():
        click.echo(f"  {name:<26}{value}")


def _moment(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
