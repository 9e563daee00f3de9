"""The student leaves without the teacher and says the same, in three formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from psad_models import SCHEMA, psad_config, psad_model, random_lists
from psad_runs import request_inputs, small_lists, trained

from recascade.data.reranking_batch import RerankingSchema
from recascade.errors import ConfigurationError, DataError
from recascade_psad.engines import OnnxEngine, TorchEngine, open_engine
from recascade_psad.export import ONNX, PROGRAM, export_student, student_of
from recascade_psad.model import PSADModel
from recascade_psad.reranker import StudentReranker
from recascade_psad.run_folder import open_run
from recascade_psad.student_network import StudentNetwork, input_names, inputs_of_batch

LENGTHS = ([1], [7, 2], [12] * 5, [9, 9, 1])


def model_for_requests(**overrides: object) -> PSADModel:
    torch.manual_seed(0)
    return PSADModel(psad_config(**overrides), request_inputs().schema).eval()


def test_exported_programs_score_alike_for_any_number_of_lists_candidates_and_events(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = psad_model().eval()
    student = student_of(model)
    # The tables of requests belong to lists of another schema; they are not read here.
    export_student(model, request_inputs(), tmp_path)
    program = torch.export.load(tmp_path / PROGRAM).module()
    engine = OnnxEngine(tmp_path / ONNX, student)
    for number, lengths in enumerate(LENGTHS):
        batch = random_lists(lengths, seed=number)
        if number == 2:
            batch = replace(batch, history_mask=torch.zeros_like(batch.history_mask))
        expected = StudentReranker(model).scores(batch)
        with torch.no_grad():
            exported = program(*inputs_of_batch(batch, SCHEMA))
        for scores in (exported, engine.scores(batch), TorchEngine(student).scores(batch)):
            assert torch.equal(torch.isneginf(scores), ~batch.candidate_mask)
            assert torch.allclose(scores[batch.candidate_mask], expected[batch.candidate_mask], atol=1e-5)


@pytest.mark.parametrize(
    "schema",
    (
        RerankingSchema(0, (), 4, (), candidates=6, history=1),
        RerankingSchema(9, (), 0, (), candidates=6, history=3),
    ),
)
def test_lists_without_items_fields_or_profiles_are_exported_too(tmp_path: Path, schema: RerankingSchema) -> None:
    torch.manual_seed(0)
    model = PSADModel(psad_config(), schema).eval()
    names = input_names(schema)
    assert "labels" not in names and "profile" not in names and "candidate_fields" not in names
    batch = random_lists([6, 2])
    batch = replace(
        batch,
        candidate_items=batch.candidate_items.clamp(max=schema.item_count - 1),
        history_items=batch.history_items.clamp(max=schema.item_count - 1),
        candidate_fields=batch.candidate_fields[..., :0],
        history_fields=batch.history_fields[..., :0],
        candidate_features=batch.candidate_features[..., : schema.feature_count],
        history_features=batch.history_features[..., : schema.feature_count],
        profile=batch.profile[:, :0],
    )
    export_student(model, request_inputs(), tmp_path, onnx=False)
    program = torch.export.load(tmp_path / PROGRAM).module()
    with torch.no_grad():
        scores = program(*inputs_of_batch(batch, schema))
    assert torch.allclose(scores, StudentReranker(model).scores(batch), atol=1e-6)


def test_the_teacher_stays_behind_and_the_parameters_are_counted(tmp_path: Path) -> None:
    model = model_for_requests()
    exported = export_student(model, request_inputs(), tmp_path, onnx=False)
    assert model.teacher is not None
    assert exported.left_out == sum(parameter.numel() for parameter in model.teacher.parameters())
    opened = open_run(tmp_path)
    assert opened.model.teacher is None
    assert exported.parameters == sum(parameter.numel() for parameter in opened.model.parameters())
    batch = request_inputs().batch
    weights = opened.model.state_dict()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights.items())
    assert opened.inputs.schema == model.schema and batch is not None
    network = StudentNetwork(model)
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in opened.model.named_parameters()}


def test_a_run_is_opened_and_exported_again_with_the_same_scores(tmp_path: Path) -> None:
    lists = small_lists()
    reranker = trained(tmp_path / "run", lists, dropout=0.1)
    assert isinstance(reranker, StudentReranker)
    batch = lists.batch(lists.rows("test"))
    opened = open_run(tmp_path / "run")
    assert torch.equal(StudentReranker(opened.model).scores(batch), reranker.scores(batch))
    export_student(opened.model, opened.inputs, tmp_path / "student", onnx=False)
    again = open_run(tmp_path / "student")
    assert torch.equal(StudentReranker(again.model).scores(batch), reranker.scores(batch))
    assert again.inputs.schema == lists.schema
    assert isinstance(open_engine("auto", tmp_path / "student", again.model), TorchEngine)


def test_nothing_of_an_earlier_student_stays_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_student(model_for_requests(), request_inputs(), tmp_path, onnx=False)
    (tmp_path / ONNX).write_bytes(b"of the earlier student")
    export_student(model_for_requests(), request_inputs(), tmp_path, onnx=False)
    assert isinstance(open_engine("auto", tmp_path, open_run(tmp_path).model), TorchEngine)
    monkeypatch.setattr("recascade_psad.export.student_program", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_student(model_for_requests(), request_inputs(), tmp_path, onnx=False)
    with pytest.raises(DataError, match="no finished run"):
        open_run(tmp_path)


def test_what_cannot_be_opened_or_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run"):
        open_run(tmp_path)
    teacher = psad_model(train="teacher", serve="teacher")
    with pytest.raises(ConfigurationError, match="no student"):
        export_student(teacher, request_inputs(), tmp_path)
    export_student(model_for_requests(), request_inputs(), tmp_path, onnx=False)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        open_run(tmp_path)
    pytest.importorskip("onnxruntime")
    (tmp_path / ONNX).write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        open_engine("onnx", tmp_path, model_for_requests())
