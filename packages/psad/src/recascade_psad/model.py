"""PSAD's networks and what stands above what."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade_psad.config import PSADConfig
from recascade_psad.student import Student
from recascade_psad.teacher import Generated, Teacher
from recascade_psad.user_profile_network import UserProfileNetwork, UserView


@dataclass(frozen=True)
class Encoded:
    """What the teacher needs to write lists, computed once per request.

    Attributes:
        candidates: ``[B, n, d]`` of ``Teacher.encode``.
        mask: bool ``[B, n]``.
        slots: ``[B, m, d]``, places as this user weighs them.
    """

    candidates: Tensor
    mask: Tensor
    slots: Tensor


class PSADModel(nn.Module):
    """Student and teacher above one User Profile Network, or each above its own.

    Args:
        config: what is built: ``train`` says which of them, ``shared`` on what.
        schema: of the lists.
    """

    def __init__(self, config: PSADConfig, schema: RerankingSchema) -> None:
        super().__init__()
        self.config = config
        self.schema = schema
        both = config.train in ("joint", "offline")
        self.profile = UserProfileNetwork(config, schema)
        # Offline, the teacher is finished before the student begins: they cannot share what still learns.
        apart = both and (config.train == "offline" or not config.shared)
        self.teacher_profile = UserProfileNetwork(config, schema) if apart else None
        self.student = Student(config) if config.train != "teacher" else None
        self.teacher = Teacher(config, schema.candidates) if config.train != "student" else None

    def scores(self, batch: RerankingBatch) -> Tensor:
        """The student's: float ``[B, n]``, -inf in padding; labels are not read."""
        return self.student_scores(self.profile(batch))

    def student_scores(self, view: UserView) -> Tensor:
        """float ``[B, n]``, -inf in padding."""
        assert self.student is not None
        scores: Tensor = self.student(view)
        return scores.masked_fill(~view.mask, float("-inf"))

    def encode(self, batch: RerankingBatch, slots: int, view: UserView | None = None) -> Encoded:
        """Everything of the teacher that is computed once per request.

        Args:
            batch: B lists; labels are not read.
            slots: m, at most n.
            view: of the same batch by ``profile``, where it is at hand already.
        """
        assert self.teacher is not None
        if self.teacher_profile is not None:
            view = self.teacher_profile(batch)
        elif view is None:
            view = self.profile(batch)
        return Encoded(self.teacher.encode(view), view.mask, self.teacher.slot_encoding(view.intent, slots))

    def teach(self, encoded: Encoded, prefix: Tensor) -> Tensor:
        """The teacher's logits ``[B, m, n]`` behind a given prefix, int64 ``[B, m]``, in one pass."""
        assert self.teacher is not None
        logits: Tensor = self.teacher(encoded.candidates, encoded.mask, encoded.slots, prefix)
        return logits

    def generate(self, encoded: Encoded, *, cached: bool = True) -> Generated:
        """The teacher's own lists."""
        assert self.teacher is not None
        return self.teacher.generate(encoded.candidates, encoded.mask, encoded.slots, cached=cached)
