"""Everything that CS3 can be told. Importable without torch.

The specification's tags stand with each default: *paper* (the abstract), *reported* (public readings of the full
text), *our choice*.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.errors import ConfigurationError

BACKBONES = ("dssm", "dat", "int_tower", "transformer", "factorisation")
LOSSES = ("binary_cross_entropy", "sampled_softmax")
RANKERS = ("din", "untrained")
VECTORS = ("stored", "random")


@dataclass
class BackboneConfig:
    """The two towers that CS3 plugs into; none of their code knows of CS3.

    Attributes:
        name: ``dssm``, ``dat``, ``int_tower`` or ``transformer``; or ``factorisation``, hybrid matrix factorisation as
            in LightFM, which has no layers to plug CAS into and no inputs for CTS and CMS: a baseline.
        embedding_dimension: width of identities and features; 16 (our choice, as all widths here).
        hidden: widths of the towers' hidden layers; 64 and 32.
        dimension: width d of the towers' outputs; 16.
        similarity: ``cosine`` or ``inner_product``.
        user_identity: give each user a vector of its own.
        item_identity: give each item a vector of its own.
        user_features: read the features of users.
        item_features: read the features of items.
        recent: latest positives whose mean a DSSM's user tower reads; 0 (none).
        history: latest positives that the transformer's user tower reads; 10.
        blocks: of the transformer; 1.
        heads: of the transformer's attention; 2.
        interaction_heads: of IntTower's interaction; 2. With 1 its score is one inner product.
        auxiliary_weight: of the backbone's own losses (DAT's adaptive mimicking, IntTower's contrast); 1 takes their
            published weights.
    """

    name: str = "dssm"
    embedding_dimension: int = 16
    hidden: list[int] = field(default_factory=lambda: [64, 32])
    dimension: int = 16
    similarity: str = "cosine"
    user_identity: bool = True
    item_identity: bool = True
    user_features: bool = True
    item_features: bool = True
    recent: int = 0
    history: int = 10
    blocks: int = 1
    heads: int = 2
    interaction_heads: int = 2
    auxiliary_weight: float = 1.0

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.backbone.name", self.name, BACKBONES)
        check_choice("model.backbone.similarity", self.similarity, ("cosine", "inner_product"))
        for name in ("embedding_dimension", "dimension", "history", "blocks", "heads", "interaction_heads"):
            check_at_least(f"model.backbone.{name}", getattr(self, name), 1)
        check_at_least("model.backbone.hidden", min(self.hidden, default=1), 1)
        check_at_least("model.backbone.recent", self.recent, 0)
        check_at_least("model.backbone.auxiliary_weight", self.auxiliary_weight, 0)
        if self.name == "transformer" and self.embedding_dimension % self.heads:
            raise ConfigurationError(
                f"model.backbone.embedding_dimension is {self.embedding_dimension} and model.backbone.heads is "
                f"{self.heads}; the width must be a multiple of the heads."
            )


@dataclass
class CycleAdaptiveConfig:
    """Cycle-Adaptive Structure: each layer of a tower runs, weighs its input by what came out, and runs again.

    Attributes:
        enabled: the switch.
        user: in the user tower.
        item: in the item tower (online the method is reported to leave it out).
        input_layer: also in the first layer, the widest (left out online, as reported; in, offline).
        cycles: 1, as reported.
        post_activation: the gate reads the layer's output after its activation (our choice), not before.
        stop_gradient: keep the gate's gradient out of the first run (our choice: no).
        zero_gate: begin with a gate of zeros, so that the layer starts as the plain one exactly (our choice).
    """

    enabled: bool = True
    user: bool = True
    item: bool = True
    input_layer: bool = True
    cycles: int = 1
    post_activation: bool = True
    stop_gradient: bool = False
    zero_gate: bool = True


@dataclass
class CrossTowerConfig:
    """Cross-Tower Synchronization: each tower reads a running mean of what the other tower said on its positives.

    Attributes:
        enabled: the switch.
        alpha: share of the old value kept at each positive; 0.8 (reported), a memory of 5 positives.
    """

    enabled: bool = True
    alpha: float = 0.8


@dataclass
class CascadeSharingConfig:
    """Cascade-Model Sharing: both towers read a running mean of the ranker's last hidden layer.

    Attributes:
        enabled: the switch.
        beta: share of the old value kept at each event, positive or negative; 0.8 (reported).
    """

    enabled: bool = True
    beta: float = 0.8


@dataclass
class RankerConfig:
    """The downstream ranker, trained on the same stream, that writes the cascade vectors (and teaches, if asked to).

    Attributes:
        name: ``din``; ``untrained`` is the same network left as initialised, a control.
        embedding_dimension: 16.
        hidden: width of its layer before the last hidden one; 64.
        width: h, width of the last hidden layer and of a cascade vector; 16.
        history: latest positives that its attention reads; 10.
        user_identity: give each user a vector of its own, also where the towers have none; a ranker usually knows more.
        beside: train it even where nothing reads it, to compare with.
        learning_rate: of Adam; 0.002.
    """

    name: str = "din"
    embedding_dimension: int = 16
    hidden: int = 64
    width: int = 16
    history: int = 10
    user_identity: bool = True
    beside: bool = False
    learning_rate: float = 2e-3

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.ranker.name", self.name, RANKERS)
        for name in ("embedding_dimension", "hidden", "width", "history"):
            check_at_least(f"model.ranker.{name}", getattr(self, name), 1)
        check_within("model.ranker.learning_rate", self.learning_rate, 0, 1)


@dataclass
class TablesConfig:
    """How the vectors of CTS and CMS are kept and read. All are our choices; the paper's are not known.

    Attributes:
        freeze_after: events after which the vectors are no longer written, while the model goes on learning; 0 never
            freezes (*rolling*).
        log_at_serve: train on the vectors that were read when the event was scored, not on those stored when its label
            came (*no*: as reported, training reads the stored ones). They are the same without label delay.
        reset_each_pass: empty the vectors before each pass over the same events. Must be on for more than one pass:
            otherwise each event would find its own label in them.
        vectors: ``stored``, or ``random`` directions of the stored lengths, a control.
    """

    freeze_after: int = 0
    log_at_serve: bool = False
    reset_each_pass: bool = False
    vectors: str = "stored"


@dataclass
class CS3Config:
    """CS3 on one of its backbones, trained in one pass over events in the order of time.

    Attributes:
        backbone: the two towers.
        cas: Cycle-Adaptive Structure.
        cts: Cross-Tower Synchronization.
        cms: Cascade-Model Sharing.
        ranker: who writes the cascade vectors.
        tables: how the vectors are kept.
        loss: ``binary_cross_entropy`` on impressions (implied by the reported metrics), or ``sampled_softmax`` among
            the batch's positives, corrected for their popularity so far (our option).
        distillation: weight of the ranker's predictions as soft labels, the rest being the labels'; 0 for none. Not
            part of CS3: the baseline that it is compared with. Needs binary cross-entropy.
        learning_rate: of Adam, for the towers and their embeddings; 0.002 (our choice).
        passes: over the training events; 1.
        batch: events in a micro-batch; 256.
        negatives: sampled per event where the log holds positives only, as in ``recascade run``; 4 (our choice). An
            event whose item nobody had in an earlier second is then left out, as no impression could be of it. May be
            0 with sampled softmax, which leaves none out.
        negative_popularity: exponent of the popularity that they are drawn by; 0 draws uniformly.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    cas: CycleAdaptiveConfig = field(default_factory=CycleAdaptiveConfig)
    cts: CrossTowerConfig = field(default_factory=CrossTowerConfig)
    cms: CascadeSharingConfig = field(default_factory=CascadeSharingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    tables: TablesConfig = field(default_factory=TablesConfig)
    loss: str = "binary_cross_entropy"
    distillation: float = 0.0
    learning_rate: float = 2e-3
    passes: int = 1
    batch: int = 256
    negatives: int = 4
    negative_popularity: float = 0.0

    @property
    def uses_tables(self) -> bool:
        """Whether events leave vectors behind that later events read."""
        return self.cts.enabled or self.cms.enabled

    @property
    def uses_ranker(self) -> bool:
        """Whether a ranker learns beside the towers."""
        return self.cms.enabled or self.distillation > 0 or self.ranker.beside

    def check(self) -> None:
        """Refuse values that cannot work, and passes that would leak.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        self.backbone.check()
        self.ranker.check()
        check_choice("model.loss", self.loss, LOSSES)
        check_choice("model.tables.vectors", self.tables.vectors, VECTORS)
        check_at_least("model.cas.cycles", self.cas.cycles, 1)
        check_at_least("model.tables.freeze_after", self.tables.freeze_after, 0)
        check_at_least("model.negative_popularity", self.negative_popularity, 0)
        for key, share in (("cts.alpha", self.cts.alpha), ("cms.beta", self.cms.beta)):
            if not 0 <= share < 1:
                raise ConfigurationError(f"model.{key} is {share}; it must be at least 0 and below 1.")
        if not 0 <= self.distillation <= 1:
            raise ConfigurationError(f"model.distillation is {self.distillation}; it must be between 0 and 1.")
        if self.distillation and self.loss == "sampled_softmax":
            raise ConfigurationError(
                f"model.distillation is {self.distillation} and model.loss is 'sampled_softmax', which reads no soft "
                "labels; set model.loss=binary_cross_entropy, or model.distillation=0."
            )
        check_within("model.learning_rate", self.learning_rate, 0, 1)
        for name in ("passes", "batch"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        check_at_least("model.negatives", self.negatives, 0)
        if not self.negatives and self.loss != "sampled_softmax":
            raise ConfigurationError(
                "model.negatives is 0, which leaves only positives to learn from; sample at least 1, or set "
                "model.loss=sampled_softmax, which takes its negatives from the batch."
            )
        if self.backbone.name == "factorisation" and (self.cas.enabled or self.uses_tables):
            raise ConfigurationError(
                "model.backbone.name is 'factorisation', which has no layers for CAS and no inputs for CTS and CMS; "
                "switch them off (model.cas.enabled=false model.cts.enabled=false model.cms.enabled=false)."
            )
        if self.passes > 1 and self.uses_tables and not self.tables.reset_each_pass:
            raise ConfigurationError(
                f"model.passes is {self.passes}: from the second pass on each event would find its own label in the "
                "vectors of CTS and CMS. Set model.tables.reset_each_pass=true, or model.passes=1."
            )
