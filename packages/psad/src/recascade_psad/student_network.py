"""The student with all that it needs, as a function from tensors to scores: what is exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade_psad.model import PSADModel

_WIDTH_OF = {
    "candidate_fields": "field_sizes",
    "candidate_features": "feature_count",
    "history_fields": "field_sizes",
    "history_features": "feature_count",
    "profile": "profile_sizes",
}


def input_names(schema: RerankingSchema) -> tuple[str, ...]:
    """Fields of ``RerankingBatch`` that a student reads, in the order of ``StudentNetwork.forward``: no labels, and
    nothing that lists of this schema do not have."""
    names = (
        "candidate_items",
        "candidate_fields",
        "candidate_features",
        "candidate_mask",
        "initial_scores",
        "history_items",
        "history_fields",
        "history_features",
        "history_ages",
        "history_mask",
        "profile",
    )
    items = {"candidate_items", "history_items"} if not schema.item_count else set()
    return tuple(
        name for name in names if name not in items and (name not in _WIDTH_OF or getattr(schema, _WIDTH_OF[name]))
    )


def inputs_of_batch(batch: RerankingBatch, schema: RerankingSchema) -> tuple[Tensor, ...]:
    """What ``StudentNetwork.forward`` takes, from a batch."""
    return tuple(getattr(batch, name) for name in input_names(schema))


class StudentNetwork(nn.Module):
    """Embeddings, User Profile Network and student of a model; the teacher is left behind.

    Args:
        model: with a student.
    """

    def __init__(self, model: PSADModel) -> None:
        super().__init__()
        assert model.student is not None
        self.schema = model.schema
        self.profile = model.profile
        self.student = model.student

    def forward(self, *inputs: Tensor) -> Tensor:
        """float32 ``[B, n]``, -inf in padding.

        Args:
            inputs: the tensors of ``input_names``.
        """
        given = dict(zip(input_names(self.schema), inputs, strict=True))
        mask, history_mask = given["candidate_mask"], given["history_mask"]
        widths = (len(self.schema.field_sizes), self.schema.feature_count)
        absent = {
            "candidate_items": torch.full_like(mask, -1, dtype=torch.int64),
            "history_items": torch.full_like(history_mask, -1, dtype=torch.int64),
            "profile": mask.new_zeros(mask.shape[0], 0, dtype=torch.int64),
        }
        for side, like in (("candidate", mask), ("history", history_mask)):
            absent[f"{side}_fields"] = like.new_zeros(*like.shape, widths[0], dtype=torch.int64)
            absent[f"{side}_features"] = like.new_zeros(*like.shape, widths[1], dtype=torch.float32)
        batch = RerankingBatch(
            lists=mask.new_zeros(mask.shape[0], dtype=torch.int64),
            labels=torch.zeros_like(given["initial_scores"]),
            **{**absent, **given},
        )
        scores: Tensor = self.student(self.profile(batch))
        return scores.masked_fill(~mask, float("-inf"))
