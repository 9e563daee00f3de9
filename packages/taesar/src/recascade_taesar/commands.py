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
    """Write the data set OUT of one domain of DATA, on which any method can be run; target=all writes OUT/DOMAIN of
    each domain in one pass.

    Settings are dotted keys with values: model.… as for 'recascade run taesar', split.… and trainer.…. The data set
    carries its split. A run that was stopped goes on where it was.

    Example: recascade taesar regenerate departments produce target=PRODUCE
    """
    from rich.progress import Progress

    from recascade.data.encode import encode
    from recascade.data.sources import resolve
    from recascade.data.split import cached_split
    from recascade.data.split_config import SplitConfig
    from recascade.errors import ConfigurationError, did_you_mean
    from recascade.settings import compose_sections, parse_overrides
    from recascade.training.config import TrainerConfig
    from recascade_taesar.config import TaesarConfig
    from recascade_taesar.method import VARIANTS
    from recascade_taesar.transform import TaesarTransform, destinations_of

    if variant not in VARIANTS:
        raise ConfigurationError(f"Method 'taesar' has no variant {variant!r}.{did_you_mean(variant, VARIANTS)}")
    overrides = parse_overrides(settings)
    target = str(overrides.pop("target", ""))
    chosen = {f"model.{key}": value for key, value in VARIANTS[variant].items()} | overrides
    schema = {"model": TaesarConfig, "split": SplitConfig, "trainer": TrainerConfig}
    sections = compose_sections(schema, {"trainer.progress": False, "trainer.tensorboard": False} | chosen)
    dataset = resolve(data)
    domains = encode(cached_split(dataset, sections["split"])).item_domains
    destinations = destinations_of(target, () if domains is None else domains.names, output)
    transform = TaesarTransform(target, sections["model"], sections["split"], sections["trainer"], seed)
    with Progress(transient=True) as bar:
        task = bar.add_task("training the models", total=None)
        made = transform.transform_all(
            dataset,
            destinations,
            output,
            lambda done, total: bar.update(task, description="regenerating", completed=done, total=total),
        )
    for name, regenerated in made.items():
        counts = regenerated.facts["counts"]
        training = sum(count for kind, count in counts.items() if kind.startswith("train "))
        made_up = training - counts.get("train original", 0)
        click.echo(f"{name}: {training:,} training events, {made_up:,} of them made, in {regenerated.path}")
