"""What computes an exported student's scores: ONNX Runtime, or PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.errors import DataError, MissingDependencyError
from recascade_psad.export import ONNX
from recascade_psad.model import PSADModel
from recascade_psad.student_network import StudentNetwork, input_names, inputs_of_batch


class Engine(Protocol):
    """Scores batches on the calling thread."""

    name: str

    def scores(self, batch: RerankingBatch) -> Tensor:
        """float32 ``[B, n]``, -inf in padding."""
        ...


class TorchEngine:
    """PyTorch itself, which needs nothing else.

    Args:
        model: with a student.
    """

    name = "torch"

    def __init__(self, model: PSADModel) -> None:
        self._schema = model.schema
        self._network = StudentNetwork(model).eval()

    @torch.inference_mode()
    def scores(self, batch: RerankingBatch) -> Tensor:
        """float32 ``[B, n]``, -inf in padding."""
        scores: Tensor = self._network(*inputs_of_batch(batch, self._schema))
        return scores


class OnnxEngine:
    """ONNX Runtime on one thread.

    Args:
        path: of ``student.onnx``.
        model: that it was exported from, for the names of its inputs.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        DataError: the file is missing or damaged.
    """

    name = "onnx"

    def __init__(self, path: Path, model: PSADModel) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                'The engine "onnx" needs onnxruntime: pip install "recascade[onnx]", or set serve.engine=torch.'
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime's own errors have no common class.
            raise DataError(f"{path} cannot be read ({error}); export the student again.") from error
        self._schema = model.schema
        # The exporter leaves out inputs that change nothing.
        self._read = {each.name for each in self._session.get_inputs()}

    def scores(self, batch: RerankingBatch) -> Tensor:
        """float32 ``[B, n]``, -inf in padding."""
        tensors = zip(input_names(self._schema), inputs_of_batch(batch, self._schema), strict=True)
        feed = {name: tensor.numpy() for name, tensor in tensors if name in self._read}
        return torch.from_numpy(self._session.run(None, feed)[0])


def open_engine(name: str, folder: Path, model: PSADModel) -> Engine:
    """The engine of a name.

    Args:
        name: ``onnx``, ``torch``, or ``auto``: ONNX Runtime where it and the file are there, otherwise PyTorch.
        folder: of an exported student, or of a run.
        model: with a student.
    """
    path = folder / ONNX
    if name == "auto":
        name = "onnx" if path.is_file() and importlib.util.find_spec("onnxruntime") else "torch"
    return OnnxEngine(path, model) if name == "onnx" else TorchEngine(model)
