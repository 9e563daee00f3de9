"""``recascade psad``: exporting a student."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def commands() -> None:
    """A re-ranker that thinks in blocks and answers in one pass."""


@commands.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--onnx/--no-onnx", default=True, show_default=True, help="Write student.onnx as well.")
def export(run: Path, output: Path, onnx: bool) -> None:
    """Write the student of RUN, the folder of one seed, into the folder OUTPUT, without the teacher.

    OUTPUT holds everything that 'recascade serve psad OUTPUT' needs, on any machine.

    Example: recascade psad export runs/psad/seed-0 student
    """
    from recascade_psad.export import export_student
    from recascade_psad.identifiers import find_identifiers, write_identifiers
    from recascade_psad.run_folder import open_run

    opened = open_run(run)
    identifiers = find_identifiers(run, opened.inputs)
    exported = export_student(opened.model, opened.inputs, output, onnx=onnx)
    if len(opened.inputs.item_fields):
        write_identifiers(output, identifiers)
    click.echo(f"{exported.parameters:,} parameters; {exported.left_out:,} of the teacher are left out")
    click.echo(f"{', '.join(exported.files)} in {output}")
