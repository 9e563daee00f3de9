"""Everything that ReCast can be told. Importable without torch.

Tags with the defaults: *paper* (arXiv 2604.22169 v1), *code* (OpenOneRec's public training code, the paper's baseline),
*our choice*. The paper states neither batch size, learning rate, temperature, seeds nor the weight of the divergence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError
from recascade.tokenizers.config import TokenizerConfig
from recascade_recast.guard_config import GuardConfig

STAGES = ("reinforce", "continue", "none")
SEARCHES = ("beam", "sample")
REWARD_NAMES = ("precision", "first-id")
REPAIRS = ("all-zero", "always", "never")
CONTRASTS = ("boundary", "random", "group")
TIES = ("first", "random", "log-prob")
FAMILIES = ("grpo", "dr-grpo", "dapo", "gspo")


@dataclass
class GeneratorConfig:
    """The generative model that is post-trained.

    Attributes:
        name: ``tiger`` (encoder–decoder) or ``decoder-only``.
        dimension: width of the stream; 64 (our choice, as all shapes here: small enough for two CPU cores).
        encoder_blocks: of TIGER; 2.
        blocks: of the decoder; 2.
        heads: attention heads; 4.
        hidden: inner width of the position-wise parts; 256.
        max_length: events of a history that are read; 20.
        dropout: rate in supervised training; 0.1. Reinforcement runs without dropout.
        reading: a token of the history per code (``codes``) or per item (``items``).
        code_start: how both tables of codes begin: ``random``, or ``content``, as what each code says of its items'
            vectors (our choice).
    """

    name: str = "decoder-only"
    dimension: int = 64
    encoder_blocks: int = 2
    blocks: int = 2
    heads: int = 4
    hidden: int = 256
    max_length: int = 20
    dropout: float = 0.1
    reading: str = "items"
    code_start: str = "random"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.generator.name", self.name, ("tiger", "decoder-only"))
        check_choice("model.generator.reading", self.reading, ("codes", "items"))
        check_choice("model.generator.code_start", self.code_start, ("random", "content"))
        for name in ("dimension", "encoder_blocks", "blocks", "heads", "hidden", "max_length"):
            check_at_least(f"model.generator.{name}", getattr(self, name), 1)
        if self.dimension % self.heads:
            raise ConfigurationError(
                f"model.generator.dimension is {self.dimension} and model.generator.heads is {self.heads}; the "
                "dimension must be a multiple of the heads."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.generator.dropout is {self.dropout}; it must be at least 0 and below 1.")


@dataclass
class RolloutConfig:
    """How groups are generated; ReCast leaves this as it is.

    Attributes:
        search: ``beam`` (code: the answers of one group are distinct) or ``sample``, independent draws.
        width: G, answers per prompt; 32 (paper, system table).
        temperature: of ``sample``; 1 (code).
        constrained: write only ids that items have; off (code) also lets through those that none has.
        prompts: P, prompts per step; 64 (inferred from the paper's 64 accelerators).
    """

    search: str = "beam"
    width: int = 32
    temperature: float = 1.0
    constrained: bool = True
    prompts: int = 64

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.rollout.search", self.search, SEARCHES)
        check_at_least("model.rollout.prompts", self.prompts, 1)
        if self.width < 2:
            raise ConfigurationError(
                f"model.rollout.width is {self.width}; a group of one answer has nothing to be compared with, set at "
                "least 2."
            )
        if not self.temperature > 0:
            raise ConfigurationError(f"model.rollout.temperature is {self.temperature}; it must be above 0.")


@dataclass
class SignalConfig:
    """What is learnt from a group: the part that ReCast changes.

    Attributes:
        reward: ``precision`` (paper, §3.1) or ``first-id`` (code).
        repair: put the target into groups in which nobody hit (``all-zero``, paper), into every group (``always``, the
            ``add_gt`` of MiniOneRec's code), or ``never``.
        adaptive: natural rate of learnable groups at which repair has faded out; 0 never fades (paper). Our extension.
        contrast: ``boundary``, the best hit against the hardest misses (paper); ``random``, against any miss; or
            ``group``, every answer against its group's mean.
        width: answers of a group that reach the actor under a contrast: one hit and width - 1 misses, which share its
            weight; 2 (paper).
        weight: w of the contrast; 1 (paper).
        repaired_weight: w in groups that were repaired; 1 (paper).
        drop_equal: leave groups out in which all answers have one reward (DAPO's filter, without drawing others).
        ties: among equal answers the ``first`` in rollout order, a ``random`` one, or the one of greatest ``log-prob``
            (the paper does not say).
        least_score: structural score that a miss needs; 0 (paper).
        parsed_negatives: only answers that hold an id may be negatives; off (paper).
        literal_negatives: an unrewarded answer that holds the target may be a negative, as the paper's rule read
            literally; off (our choice).
        anchor: of several targets the ``first`` or a ``random`` one (the paper does not say).
    """

    reward: str = "precision"
    repair: str = "all-zero"
    adaptive: float = 0.0
    contrast: str = "boundary"
    width: int = 2
    weight: float = 1.0
    repaired_weight: float = 1.0
    drop_equal: bool = False
    ties: str = "first"
    least_score: float = 0.0
    parsed_negatives: bool = False
    literal_negatives: bool = False
    anchor: str = "first"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.signal.reward", self.reward, REWARD_NAMES)
        check_choice("model.signal.repair", self.repair, REPAIRS)
        check_choice("model.signal.contrast", self.contrast, CONTRASTS)
        check_choice("model.signal.ties", self.ties, TIES)
        check_choice("model.signal.anchor", self.anchor, ("first", "random"))
        check_at_least("model.signal.width", self.width, 2)
        check_at_least("model.signal.least_score", self.least_score, 0)
        for name in ("weight", "repaired_weight"):
            check_at_least(f"model.signal.{name}", getattr(self, name), 0)
        if not 0 <= self.adaptive <= 1:
            raise ConfigurationError(f"model.signal.adaptive is {self.adaptive}; it is a share, from 0 to 1.")
        if self.adaptive and self.repair != "all-zero":
            raise ConfigurationError(
                f"model.signal.adaptive fades the repair of all-zero groups, but model.signal.repair is "
                f"{self.repair!r}; set it to 'all-zero'."
            )
        if self.drop_equal and self.contrast != "group":
            raise ConfigurationError(
                f"model.signal.drop_equal filters groups for model.signal.contrast=group; with {self.contrast!r} those "
                "without a boundary are left out anyway."
            )


@dataclass
class UpdateConfig:
    """The outer loop: what is done with advantages. The same for every signal.

    Attributes:
        family: ``grpo``; ``dr-grpo`` (no division by the deviation); ``dapo`` (a higher upper clip); ``gspo`` (one
            ratio per answer).
        deviation: of rewards in a group, ``unbiased`` (code) or ``population`` (paper).
        clip_low: lower clip of the ratio; null takes the family's: 0.2, for ``gspo`` 3e-4.
        clip_high: upper clip; null takes the family's: 0.2, for ``dapo`` 0.28, for ``gspo`` 4e-4.
        dual_clip: bound of the loss where the advantage is negative; 3 (code); 0 for none.
        divergence: β, weight of the divergence from the supervised model; 0.001 (code).
        denominator: divide by the answers that reach the actor (``active``, our choice), or by all that were generated
            (``group``, the 1/G of the paper's formula).
        passes: optimiser steps on each batch of answers; 1 (our choice; code: as many as it has rows per device).
        share_context: read each history once for all its answers (our choice); off repeats it per answer, as the
            engines for language models do.
        steps: batches of prompts; 300.
        learning_rate: of Adam; 3e-5.
        warmup_steps: 10 (code).
        weight_decay: 0 (code: 0.1).
        gradient_clip: largest norm of the gradient; 1; 0 for none.
    """

    family: str = "grpo"
    deviation: str = "unbiased"
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float = 3.0
    divergence: float = 0.001
    denominator: str = "active"
    passes: int = 1
    share_context: bool = True
    steps: int = 300
    learning_rate: float = 3e-5
    warmup_steps: int = 10
    weight_decay: float = 0.0
    gradient_clip: float = 1.0

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.update.family", self.family, FAMILIES)
        check_choice("model.update.deviation", self.deviation, ("unbiased", "population"))
        check_choice("model.update.denominator", self.denominator, ("active", "group"))
        for name in ("passes", "steps"):
            check_at_least(f"model.update.{name}", getattr(self, name), 1)
        for name in ("divergence", "warmup_steps", "weight_decay", "gradient_clip"):
            check_at_least(f"model.update.{name}", getattr(self, name), 0)
        if self.clip_low is not None:
            check_within("model.update.clip_low", self.clip_low, 0, 1)
        if self.clip_high is not None:
            check_at_least("model.update.clip_high", self.clip_high, 0)
        if self.dual_clip and not self.dual_clip > 1:
            raise ConfigurationError(f"model.update.dual_clip is {self.dual_clip}; it must be above 1, or 0 for none.")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"model.update.learning_rate is {self.learning_rate}; it must be above 0.")


@dataclass
class ReCastConfig:
    """ReCast: a supervised generator, then reinforcement from groups of its own answers.

    Attributes:
        stage: after supervised training ``reinforce``, ``continue`` supervised training on as many targets (a control),
            or ``none``.
        start: folder of a supervised run of ReCast (variant ``sft``) to start from, or of one seed of it: its weights
            and ids are taken, its generator must be the same, and seeds start from the same seed, which says who was
            kept for reinforcement. Empty trains it first.
        reinforced_users: share of users kept out of supervised training, for the second stage; 0.5 (our choice).
        beams: kept after each level when serving; one number stands for all levels.
        sharing: items that share an id stand in its place in the order of ``popularity``, or ``split`` its probability.
        ids: a file of ``recascade tokenize``; empty takes those of ``start``, or makes ids with ``tokenizer``.
        generator: the model.
        rollout: how groups are generated.
        signal: what is learnt from them.
        update: the outer loop.
        guard: what is watched.
        tokenizer: how ids are made.
    """

    stage: str = "reinforce"
    start: str = field(default="", metadata=names_a_file())
    reinforced_users: float = 0.5
    beams: list[int] = field(default_factory=lambda: [50])
    sharing: str = "popularity"
    ids: str = field(default="", metadata=names_a_file())
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    signal: SignalConfig = field(default_factory=SignalConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_choice("model.stage", self.stage, STAGES)
        check_choice("model.sharing", self.sharing, ("popularity", "split"))
        check_at_least("model.beams", min(self.beams, default=0), 1)
        if not 0 < self.reinforced_users < 1:
            raise ConfigurationError(
                f"model.reinforced_users is {self.reinforced_users}; it is a share, above 0 and below 1."
            )
        for part in (self.generator, self.rollout, self.signal, self.update, self.guard, self.tokenizer):
            part.check()
        if self.signal.contrast != "group" and self.signal.width > self.rollout.width:
            raise ConfigurationError(
                f"model.signal.width is {self.signal.width}, more answers than model.rollout.width="
                f"{self.rollout.width} generates."
            )
