"""Everything that GR4AD can be told. Importable without torch.

The paper (arXiv 2602.22732 v3) gives 9 layers, 6 of them lazy, 3 codes and an eCPM step, beams of 128, 256 and 512; it
gives no width, batch, weight of a loss, number of buckets, β, δ or list length. Defaults without a remark are our
choice, small enough for two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice
from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError
from recascade.tokenizers.config import TokenizerConfig

SOURCES = ("auto", "none", "simulated", "catalogue", "sales", "column")
OBJECTIVES = ("none", "rspo", "dpo", "s-dpo", "grpo", "unified")


@dataclass
class ValuesConfig:
    """What an ad is worth, and what the model learns of it (VSL).

    Attributes:
        source: ``sales`` (money of each purchase: sales_value less coupon discounts), ``column`` (a column of the
            events), ``catalogue`` (bid and conversion_type of items.parquet, times a teacher's pCVR), ``simulated``
            (bids and types drawn by seed for any data; always labelled synthetic), or ``none``; ``auto`` takes the
            first of sales, value column and catalogue that the data have, else simulates.
        column: of the events, for ``column`` and ``auto``.
        buckets: equally filled eCPM buckets of the last decoding step; 32; 0 drops that step.
        loss_weight: λ_e of the eCPM step's loss; 1.
        gamma: γ of the order ``log p + γ log E[value]``; 0 leaves the order of the search.
        user_weights: weigh samples by the user's long-term value.
        deep_weight: weight of a deeper action (a purchase) against 1 of others; 3.
        behaviour_column: of the events; where it holds one of ``deep_behaviours`` the action is deep. Empty: simulated
            values say which actions are deep, otherwise none is.
        deep_behaviours: see above.
        grades: buckets of value that grade lists; 8.
        highest_grade: they are spread from 0 to this; 4, so that 2^grade stays bounded.
        teacher_dimension: width of the pCVR teacher's vectors; 32.
    """

    source: str = "auto"
    column: str = "value"
    buckets: int = 32
    loss_weight: float = 1.0
    gamma: float = 0.0
    user_weights: bool = True
    deep_weight: float = 3.0
    behaviour_column: str = ""
    deep_behaviours: list[str] = field(default_factory=lambda: ["purchase", "buy", "conversion"])
    grades: int = 8
    highest_grade: float = 4.0
    teacher_dimension: int = 32

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.values.source", self.source, SOURCES)
        for name, least in (("buckets", 0), ("gamma", 0), ("grades", 2), ("teacher_dimension", 1)):
            check_at_least(f"model.values.{name}", getattr(self, name), least)
        for name in ("loss_weight", "deep_weight", "highest_grade"):
            check_at_least(f"model.values.{name}", getattr(self, name), 0)
        if self.buckets == 1:
            raise ConfigurationError("model.values.buckets is 1, which says nothing; set 0 or at least 2.")
        if self.gamma and not self.buckets:
            raise ConfigurationError("model.values.gamma orders by the eCPM step, but model.values.buckets is 0.")
        if self.source == "none" and self.buckets:
            raise ConfigurationError(
                "model.values.source is 'none', so there is nothing for an eCPM step to learn; set "
                "model.values.buckets to 0."
            )


@dataclass
class PreferenceConfig:
    """The second stage: ranking lists that the first stage generated, by value.

    Attributes:
        objective: ``rspo``, ``dpo``, ``s-dpo``, ``grpo``, ``unified`` (VSL and RSPO weighted by rank discrepancy), or
            ``none`` for no second stage.
        start: ``weights.safetensors`` of a finished run to start from instead of a first stage; its ids and settings
            must be the same.
        requests: lists generated, from training requests of valuable users first; 4,000.
        length: n, candidates of a list, the logged item among them; 16.
        exploration: share of a list drawn from beyond its best candidates; 0.25.
        temperature: of that draw; 1.5.
        steps: of the optimiser; 1,500.
        batch: lists per step; 32.
        learning_rate: of Adam; 2e-4.
        weight: of the ranking loss; 1. For ``unified`` Z_max. RSPO's M lie well below 1, so at equal weight it moves
            the policy less than the others do: compare objectives at several weights.
        imitation: of the VSL loss of the logged item beside it; 1. For ``unified`` w_0.
        beta: β; 1.
        threshold: δ of the reference gate, nats; 2.
        positions: ranks inside M by the ``model`` (what the proof needs) or by ``reward``.
        weights: M as the paper has it (``lambda``), or ``uniform``, which makes RSPO an S-DPO of every candidate.
        clip: ε of GRPO; 0.2.
        divergence: weight of GRPO's penalty; 0.001.
    """

    objective: str = "none"
    start: str = field(default="", metadata=names_a_file())
    requests: int = 4000
    length: int = 16
    exploration: float = 0.25
    temperature: float = 1.5
    steps: int = 1500
    batch: int = 32
    learning_rate: float = 2e-4
    weight: float = 1.0
    imitation: float = 1.0
    beta: float = 1.0
    threshold: float = 2.0
    positions: str = "model"
    weights: str = "lambda"
    clip: float = 0.2
    divergence: float = 0.001

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.preference.objective", self.objective, OBJECTIVES)
        check_choice("model.preference.positions", self.positions, ("model", "reward"))
        check_choice("model.preference.weights", self.weights, ("lambda", "uniform"))
        for name, least in (("requests", 1), ("length", 2), ("steps", 1), ("batch", 1)):
            check_at_least(f"model.preference.{name}", getattr(self, name), least)
        for name in ("weight", "imitation", "threshold", "clip", "divergence"):
            check_at_least(f"model.preference.{name}", getattr(self, name), 0)
        for name in ("temperature", "learning_rate", "beta"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"model.preference.{name} is {getattr(self, name)}; it must be above 0.")
        if self.objective == "unified" and not self.imitation:
            raise ConfigurationError(
                "model.preference.imitation is 0, but with model.preference.objective=unified it scales both parts of "
                "the loss; set it above 0."
            )
        if not 0 <= self.exploration < 1:
            raise ConfigurationError(
                f"model.preference.exploration is {self.exploration}; it must be at least 0 and below 1."
            )


@dataclass
class GR4ADConfig:
    """GR4AD: the decoder, the ids, the values and the two stages of training.

    Attributes:
        dimension: width of the stream; 64.
        layers: L; 6 (the paper: 9).
        trunk_layers: K, the layers that do not see the code before; 4, two thirds as in the paper; 0 for none.
        heads: attention heads; 4.
        head_width: width of a head; null for dimension / heads.
        hidden: inner width of the position-wise parts; 256.
        fusion: how the upper layers see the code before: ``residual``, the paper's gate with a path for the trunk past
            it (our choice: on Amazon Beauty the gate alone lost 3 % of recall); ``gated``, the paper's; or ``add``.
        fuse_first: fuse a begin vector at the first step (the paper's text); off: its figure 1.
        context_sets: sets of the context's keys and values that layers share; 0 for one per layer.
        multi_token: λ_mtp, weight of predicting all codes from the trunk alone; 0.1; 0 for none.
        max_length: events of a history that are read; 20.
        dropout: rate on the context and inside the blocks; 0.1.
        reading: an event is a token of its own (``items``) or one per code (``codes``).
        user_buckets: hashed users as start tokens; 0 for none.
        code_start: how both tables of codes begin: ``random``, or ``content``, as what each code says of its items'
            vectors (our choice).
        user_features: read the features of users.
        beams: kept after each level; one number stands for all levels. The paper: 128, 256, 512; here 50.
        sharing: items that share an id stand in its place in the order of ``popularity``, or ``split`` its probability.
        ids: a file of ``recascade tokenize``; empty makes ids with ``tokenizer``.
        tokenizer: how ids are made; ``ua-sid`` as in the paper.
        values: what ads are worth.
        preference: the second stage.
    """

    dimension: int = 64
    layers: int = 6
    trunk_layers: int = 4
    heads: int = 4
    head_width: int | None = None
    hidden: int = 256
    fusion: str = "residual"
    fuse_first: bool = False
    context_sets: int = 0
    multi_token: float = 0.1
    max_length: int = 20
    dropout: float = 0.1
    reading: str = "items"
    user_buckets: int = 0
    code_start: str = "random"
    user_features: bool = True
    beams: list[int] = field(default_factory=lambda: [50])
    sharing: str = "popularity"
    ids: str = field(default="", metadata=names_a_file())
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig(name="ua-sid"))
    values: ValuesConfig = field(default_factory=ValuesConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        check_choice("model.fusion", self.fusion, ("residual", "gated", "add"))
        check_choice("model.reading", self.reading, ("codes", "items"))
        check_choice("model.code_start", self.code_start, ("random", "content"))
        check_choice("model.sharing", self.sharing, ("popularity", "split"))
        for name in ("dimension", "layers", "heads", "hidden", "max_length"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        for name in ("trunk_layers", "context_sets", "user_buckets", "multi_token"):
            check_at_least(f"model.{name}", getattr(self, name), 0)
        check_at_least("model.beams", min(self.beams, default=0), 1)
        if self.trunk_layers >= self.layers:
            raise ConfigurationError(
                f"model.trunk_layers is {self.trunk_layers} of model.layers={self.layers}; at least one layer must see "
                "the code before."
            )
        if self.context_sets > self.layers:
            raise ConfigurationError(
                f"model.context_sets is {self.context_sets}, more than model.layers={self.layers} can read."
            )
        if self.head_width is not None:
            check_at_least("model.head_width", self.head_width, 1)
        elif self.dimension % self.heads:
            raise ConfigurationError(
                f"model.dimension is {self.dimension} and model.heads is {self.heads}; the dimension must be a "
                "multiple of the heads, or model.head_width must be set."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1.")
        if self.preference.objective != "none" and self.values.source == "none":
            raise ConfigurationError(
                f"model.preference.objective is {self.preference.objective!r}, which ranks by value, but "
                "model.values.source is 'none'."
            )
        self.tokenizer.check()
        self.values.check()
        self.preference.check()
