"""``recascade tokenize``: semantic ids for the items of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recascade.cli.cluster_options import cluster_options
from recascade.cli.sweeping import overrides_argument
from recascade.errors import ConfigurationError

_DRAWINGS = (".svg", ".html")


@click.command()
@click.argument("data", metavar="DATA")
@overrides_argument
@click.option("--tokenizer", default="residual-k-means", show_default=True, help="Name of the quantiser.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The table of items and codes.  [default: NAME-TOKENIZER.parquet]",
)
@click.option(
    "--encoder",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write what turns the texts of new items into vectors.",
)
@click.option(
    "--drawing", type=click.Path(dir_okay=False, path_type=Path), help="Also draw what is printed, as .svg or .html."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every random choice.")
@click.option(
    "--codebooks",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A table made before: its codebooks stay as they are, and the items of DATA, a Parquet file of vectors, are "
    "added to it.",
)
@cluster_options
def command(
    data: str,
    overrides: tuple[str, ...],
    tokenizer: str,
    output: Path | None,
    encoder: Path | None,
    drawing: Path | None,
    seed: int,
    codebooks: Path | None,
    runner: str,
    ray_address: str | None,
) -> None:
    """Give the items of DATA codes of a few levels, write them, and show how well the codes tell items apart.

    DATA is a name or a folder. Only training events and the catalogue's rows of their items are read. Settings are
    dotted keys with values; their groups are split, tokenizer, tokenizer.content, tokenizer.contrastive,
    tokenizer.clustering, tokenizer.gradient and tokenizer.conflicts.

    Example: recascade tokenize amazon-beauty --tokenizer ua-sid tokenizer.sizes=[256,64,16]

    With --codebooks, also on a cluster: recascade tokenize new.parquet --codebooks ids.parquet --runner ray
    """
    if codebooks is not None:
        _append(Path(data).expanduser(), codebooks, output, overrides, runner, ray_address)
        return
    if runner == "ray":
        raise ConfigurationError("Codebooks are learned on one machine; --runner ray goes with --codebooks TABLE.")
    if drawing is not None and drawing.suffix not in _DRAWINGS:
        raise ConfigurationError(f"--drawing {drawing} must end in .svg or .html.")
    sections = _sections(tokenizer, overrides)

    from recascade.cli.code_display import show_codes
    from recascade.data.encode import encode
    from recascade.data.sources import resolve
    from recascade.data.split import cached_split
    from recascade.tokenizers.semantic_ids_file import save_semantic_ids
    from recascade.tokenizers.tokenize import tokenize

    dataset = resolve(data)
    split = cached_split(dataset, sections["split"])
    tokenized = tokenize(encode(split), split, sections["tokenizer"], seed)
    if encoder is not None and tokenized.content.encoder is None:
        raise ConfigurationError(
            "--encoder writes the encoder of tokenizer.content.source=text; other vectors come from outside."
        )
    table = output or Path(f"{dataset.name}-{tokenizer}.parquet")
    save_semantic_ids(tokenized.ids, table)
    if encoder is not None and tokenized.content.encoder is not None:
        tokenized.content.encoder.save(encoder)
    show_codes(tokenized, f"{dataset.name}{' (SYNTHETIC DATA)' if dataset.synthetic else ''}", drawing)
    for written in filter(None, (table, encoder, drawing)):
        click.echo(f"Wrote {written}.")


def _append(
    vectors: Path,
    codebooks: Path,
    output: Path | None,
    overrides: tuple[str, ...],
    runner: str,
    ray_address: str | None,
) -> None:
    from recascade.tokenizers.append_vectors import append_vectors, append_vectors_on_cluster
    from recascade.tokenizers.semantic_ids_file import save_semantic_ids

    if overrides:
        raise ConfigurationError(f"{codebooks} holds its own settings; leave {overrides[0]} out.")
    if runner == "ray":
        ids = append_vectors_on_cluster(codebooks, vectors, ray_address)
    else:
        ids = append_vectors(codebooks, vectors)
    table = output or vectors.with_name(f"{vectors.stem}-ids.parquet")
    save_semantic_ids(ids, table)
    click.echo(f"Wrote {table}: {len(ids):,} items, those of {codebooks} with their codes.")


def _sections(tokenizer: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    from recascade.data.split_config import SplitConfig
    from recascade.settings import compose_sections, parse_overrides
    from recascade.tokenizers.config import TokenizerConfig

    values = parse_overrides(overrides)
    if "tokenizer.name" in values:
        raise ConfigurationError("Name the quantiser with --tokenizer, not with tokenizer.name.")
    return compose_sections(
        {"split": SplitConfig, "tokenizer": TokenizerConfig}, {"tokenizer.name": tokenizer, **values}
    )
