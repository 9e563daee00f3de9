"""Everything that PSAD can be told. Importable without torch.

Tags: *paper* (abstract of arXiv 2603.07107 v1), *reported* (summaries by readers of the paper), *inferred* (from these
and the field's conventions), *our choice* (unknown). The paper's own equations, sizes and data sets were not available:
every form below is inferred unless another tag stands with it, and every value is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice
from recascade.errors import ConfigurationError

TRAINED = ("joint", "student", "teacher", "offline")
SERVED = ("student", "teacher")
COMMITS = ("greedy", "confidence", "hungarian")
PREFIXES = ("mix", "gold", "self")
CONTEXTS = ("none", "pool", "attention", "transformer")
STUDENT_LOSSES = ("listwise", "binary")
DISTILLATION_TARGETS = ("plackett-luce", "first", "rank", "listmle", "pairwise")


@dataclass
class UserProfileConfig:
    """The User Profile Network: candidates as this user sees them (that it exists: paper; its parts: reported).

    Attributes:
        gate: the personalised gate on candidates (reported; its form, as in LHUC and PPNet, inferred).
        dynamics: what of the history bears on a candidate, with a personal decay in time (paper; the form, after MIR,
            inferred).
        position: adaptive position encoding (reported; the form, a gated table, inferred). Off leaves the plain table.
        initial_rank: tell candidates their place in the earlier stage's list.
        initial_score: tell them its score as well.
        history_blocks: transformer blocks over the history; 1.
    """

    gate: bool = True
    dynamics: bool = True
    position: bool = True
    initial_rank: bool = True
    initial_score: bool = True
    history_blocks: int = 1


@dataclass
class TeacherConfig:
    """The semi-autoregressive generator (paper: blocks; forms inferred).

    Attributes:
        block: K, slots filled by one pass; 1 is autoregressive, 0 fills the whole list at once.
        encoder_blocks: transformer blocks over the candidates; 1.
        decoder_blocks: transformer blocks over the slots; 1.
        commit: who gets an item that several slots of a block want: ``greedy`` (slots in order), ``confidence`` (the
            largest logit first, as UniRank) or ``hungarian`` (the best assignment).
        prefix: what the decoder reads in training: the list sorted by labels (``gold``), its own answer (``self``), or
            each for some lists (``mix``).
        self_share: share of lists with their own answer under ``prefix=mix``; 0.5.
        unclicked_weight: weight of slots for which no clicked candidate is left; 0.1.
    """

    block: int = 5
    encoder_blocks: int = 1
    decoder_blocks: int = 1
    commit: str = "greedy"
    prefix: str = "mix"
    self_share: float = 0.5
    unclicked_weight: float = 0.1

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.teacher.commit", self.commit, COMMITS)
        check_choice("model.teacher.prefix", self.prefix, PREFIXES)
        for name in ("block", "unclicked_weight"):
            check_at_least(f"model.teacher.{name}", getattr(self, name), 0)
        for name in ("encoder_blocks", "decoder_blocks"):
            check_at_least(f"model.teacher.{name}", getattr(self, name), 1)
        if not 0 <= self.self_share <= 1:
            raise ConfigurationError(f"model.teacher.self_share is {self.self_share}; it is a share, from 0 to 1.")


@dataclass
class StudentConfig:
    """The lightweight scoring network (paper: its role; form inferred).

    Attributes:
        context: what it knows of the other candidates: nothing (``none``), their mean (``pool``), also what each finds
            among them by attention (``attention``), or one transformer block over the list (``transformer``).
        hidden: widths of the perceptron's hidden layers; 64, 32.
        loss: on clicks, over the list (``listwise``) or each by itself (``binary``).
    """

    context: str = "attention"
    hidden: list[int] = field(default_factory=lambda: [64, 32])
    loss: str = "listwise"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.student.context", self.context, CONTEXTS)
        check_choice("model.student.loss", self.loss, STUDENT_LOSSES)
        for width in self.hidden:
            check_at_least("model.student.hidden", width, 1)


@dataclass
class DistillationConfig:
    """What the student learns from the teacher while both learn (paper: online, from scratch; forms inferred).

    Attributes:
        target: ``plackett-luce`` (the teacher's choice at each slot against the student's), ``first`` (its choice at
            the first slot), ``rank`` (a distribution over places), ``listmle`` (its list as the truth) or ``pairwise``
            (its order of each pair).
        weight: λ; 0.5. 0 trains both side by side.
        warm_up: epochs over which the weight rises linearly from 0; 3.
        temperature: τ of the teacher's logits; 1.
        student_temperature: τ of the student's scores; 1.
        source: the teacher's distributions along its own answer (``free``) or along the prefix it is trained on
            (``forced``), which labels have shaped.
        mutual: the teacher learns from the student as well (deep mutual learning); off.
    """

    target: str = "plackett-luce"
    weight: float = 0.5
    warm_up: int = 3
    temperature: float = 1.0
    student_temperature: float = 1.0
    source: str = "free"
    mutual: bool = False

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.distillation.target", self.target, DISTILLATION_TARGETS)
        check_choice("model.distillation.source", self.source, ("free", "forced"))
        for name in ("weight", "warm_up"):
            check_at_least(f"model.distillation.{name}", getattr(self, name), 0)
        for name in ("temperature", "student_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"model.distillation.{name} is {getattr(self, name)}; it must be above 0.")
        if self.mutual and self.target != "plackett-luce":
            raise ConfigurationError(
                f"model.distillation.mutual exists for model.distillation.target=plackett-luce, which is "
                f"{self.target!r}; switch one of them."
            )


@dataclass
class PSADConfig:
    """PSAD: a list generator and a scorer above one view of user and candidates, trained together.

    Attributes:
        train: ``joint`` (teacher and student at once: paper), ``student`` or ``teacher`` alone, or ``offline``: the
            teacher first, then a student of its own learns from it.
        serve: which of them answers, and is watched in training: ``student`` (paper) or ``teacher``.
        shared: both read one User Profile Network; off gives each its own.
        dimension: width d of the streams; 64, as the baselines.
        heads: attention heads; 2.
        hidden: inner width of the transformers' position-wise parts; 128.
        embedding: width of each categorical field's vectors; 16, as LibRerank.
        item_identity: give each item a vector of its own beside its fields.
        dropout: rate in transformers and the student's perceptron; 0.1.
        slots: m, places to fill in training; 0 for as many as there are candidates.
        profile: the User Profile Network.
        teacher: the generator.
        student: the scorer.
        distillation: what passes between them.
    """

    train: str = "joint"
    serve: str = "student"
    shared: bool = True
    dimension: int = 64
    heads: int = 2
    hidden: int = 128
    embedding: int = 16
    item_identity: bool = True
    dropout: float = 0.1
    slots: int = 0
    profile: UserProfileConfig = field(default_factory=UserProfileConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_choice("model.train", self.train, TRAINED)
        check_choice("model.serve", self.serve, SERVED)
        for name in ("dimension", "heads", "hidden", "embedding"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        check_at_least("model.slots", self.slots, 0)
        check_at_least("model.profile.history_blocks", self.profile.history_blocks, 0)
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1.")
        if self.dimension % self.heads:
            raise ConfigurationError(
                f"model.dimension is {self.dimension} and model.heads is {self.heads}; the dimension must be a "
                "multiple of the heads."
            )
        for part in (self.teacher, self.student, self.distillation):
            part.check()
        alone = {"student": "student", "teacher": "teacher", "offline": "student"}.get(self.train, self.serve)
        if self.serve != alone:
            raise ConfigurationError(
                f"model.train={self.train} leaves no {self.serve} to serve; set model.serve={alone}."
            )
