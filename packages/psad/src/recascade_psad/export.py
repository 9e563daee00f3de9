"""The student alone, without the teacher: as weights, as an exported program, and as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.data.reranking_inputs import RerankingInputs
from recascade.errors import ConfigurationError, MissingDependencyError
from recascade.files import write_atomically
from recascade_psad.model import PSADModel
from recascade_psad.run_folder import FACTS, write_facts, write_weights
from recascade_psad.student_network import StudentNetwork, input_names, inputs_of_batch

PROGRAM = "student.pt2"
ONNX = "student.onnx"
_MOST = 4096
# Sizes of the example that is traced; all differ, so that none can be taken for another.
_LISTS, _CANDIDATES, _EVENTS = 3, 5, 4


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        parameters: numbers that the student needs, embeddings and User Profile Network included.
        left_out: numbers that only the teacher needed.
        files: names in the folder.
    """

    parameters: int
    left_out: int
    files: tuple[str, ...]


def export_student(model: PSADModel, inputs: RerankingInputs, folder: Path, *, onnx: bool = True) -> Exported:
    """Write the student into a folder: ``weights.safetensors`` with its settings, which ``open_run`` reads;
    ``student.pt2``, which ``torch.export.load`` reads; and ``student.onnx``. The number of lists, candidates and events
    is free in all of them.

    Args:
        model: with a student.
        inputs: what turns requests into its batches.
        folder: made where it is missing; an earlier student in it is replaced.
        onnx: whether to write the ONNX file.

    Raises:
        ConfigurationError: the model has no student.
        MissingDependencyError: onnx and onnxscript are not installed.
    """
    student = student_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    # Nothing of an earlier student may be served with this one; without the settings, which come last, the folder reads
    # as unfinished until all is there.
    for name in (FACTS, PROGRAM, ONNX):
        (folder / name).unlink(missing_ok=True)
    write_weights(folder, student)
    program = student_program(student)
    with write_atomically(folder / PROGRAM) as temporary:
        # The suffix decides the format.
        archive = temporary.with_suffix(".pt2")
        torch.export.save(program, archive)
        archive.replace(temporary)
    files = [PROGRAM]
    if onnx:
        _write_onnx(program, student.schema, folder / ONNX)
        files.append(ONNX)
    write_facts(folder, student.config, inputs)
    kept = _parameters(student)
    return Exported(kept, _parameters(model) - kept, tuple(files))


def student_of(model: PSADModel) -> PSADModel:
    """The same student without a teacher, in evaluation mode.

    Raises:
        ConfigurationError: the model has no student.
    """
    if model.student is None:
        raise ConfigurationError(
            "The run trained a teacher alone (model.train=teacher); it has no student to export. Train with "
            "model.train=joint."
        )
    alone = PSADModel(replace(model.config, train="student", serve="student"), model.schema)
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if name in alone.state_dict()})
    return alone.eval()


def student_program(model: PSADModel) -> ExportedProgram:
    """The student as ``torch.export`` traces it; it takes the tensors of ``input_names``."""
    lists, candidates, events = (Dim(name, min=1, max=_MOST) for name in ("lists", "candidates", "events"))

    def dimensions(name: str) -> dict[int, Any]:
        if name == "profile":
            return {0: lists}
        return {0: lists, 1: events if name.startswith("history") else candidates}

    names = input_names(model.schema)
    example = inputs_of_batch(_example(model.schema), model.schema)
    with torch.no_grad():
        return torch.export.export(
            StudentNetwork(model).eval(), example, dynamic_shapes=(tuple(map(dimensions, names)),)
        )


def export_onnx(model: PSADModel, path: Path) -> None:
    """Write the ONNX file alone.

    Args:
        model: of ``student_of``.
        path: of the file.

    Raises:
        MissingDependencyError: onnx and onnxscript are not installed.
    """
    _write_onnx(student_program(model), model.schema, path)


def _write_onnx(program: ExportedProgram, schema: RerankingSchema, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError('An ONNX file needs onnx and onnxscript: pip install "recascade[onnx]"') from error
    with _quiet():
        written = torch.onnx.export(
            program, input_names=list(input_names(schema)), output_names=["scores"], dynamo=True, verbose=False
        )
    assert written is not None
    with write_atomically(path) as temporary:
        written.save(str(temporary), external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the exporter's remarks on packages and foldings that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _example(schema: RerankingSchema) -> RerankingBatch:
    """Lists of unknown items, for their shapes."""

    def codes(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64)

    pools, histories, fields = (_LISTS, _CANDIDATES), (_LISTS, _EVENTS), len(schema.field_sizes)
    return RerankingBatch(
        lists=codes(_LISTS),
        candidate_items=codes(*pools) - 1,
        candidate_fields=codes(*pools, fields),
        candidate_features=torch.zeros(*pools, schema.feature_count),
        candidate_mask=torch.ones(pools, dtype=torch.bool),
        initial_scores=torch.zeros(pools),
        history_items=codes(*histories) - 1,
        history_fields=codes(*histories, fields),
        history_features=torch.zeros(*histories, schema.feature_count),
        history_ages=torch.zeros(histories),
        history_mask=torch.ones(histories, dtype=torch.bool),
        profile=codes(_LISTS, len(schema.profile_sizes)),
        labels=torch.zeros(pools),
    )


def _parameters(model: PSADModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
