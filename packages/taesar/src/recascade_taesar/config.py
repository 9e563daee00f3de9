"""Everything that Taesar can be told. Importable without torch.

Tags with the defaults: *code* (the released code), *figure* (the paper's method figure), *our choice*. The body of the
paper was not available to us.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError
from recascade.training.config import LossConfig
from recascade_taesar.backbone_config import BackboneConfig

TRAINING_DATA = ("regenerated", "target", "mixed", "random-successor", "shifted")


@dataclass
class RegeneratorConfig:
    """The models that regenerate: one of all domains, and from it one expert per domain.

    Attributes:
        dimension: width of item vectors and states; 64 (code: 128).
        blocks: transformer blocks; 2 (code).
        heads: attention heads; 2 (code).
        max_length: events of a history that are read; 126 (code: of 128, two are held out).
        dropout: rate on the input and inside the blocks; 0.2 (code).
        windows: read the ``last`` ``max_length`` + 1 training events (code), or all of them in ``chunks``.
        learning_rate: of Adam; 1e-3 (our choice for the smaller width; code: 3e-4).
        batch_sequences: sequences per batch; 128 (code).
        epochs: most epochs of the mixed model; 300 (code).
        patience: epochs without a better NDCG@10 on the validation events before it stops; 11 (code).
        validation_users: validate on at most this many users; 0 for all (code).
        adaptation_epochs: epochs of each expert, from the mixed model's best weights; 20 (code). 0 uses the mixed model
            as every expert (the ablation without adaptation).
        adaptation_patience: epochs without a better NDCG@10 on the domain's validation events before an expert stops,
            its best weights kept; 0 (code) trains all epochs and keeps the last.
        loss: of the mixed model; the full softmax (code). ``sampled_softmax`` where there are very many items.
    """

    dimension: int = 64
    blocks: int = 2
    heads: int = 2
    max_length: int = 126
    dropout: float = 0.2
    windows: str = "last"
    learning_rate: float = 1e-3
    batch_sequences: int = 128
    epochs: int = 300
    patience: int = 11
    validation_users: int = 0
    adaptation_epochs: int = 20
    adaptation_patience: int = 0
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        for name in ("dimension", "blocks", "heads", "max_length", "batch_sequences", "epochs"):
            check_at_least(f"model.regenerator.{name}", getattr(self, name), 1)
        for name in ("patience", "validation_users", "adaptation_epochs", "adaptation_patience"):
            check_at_least(f"model.regenerator.{name}", getattr(self, name), 0)
        if self.dimension % self.heads:
            raise ConfigurationError(
                f"model.regenerator.dimension is {self.dimension} and model.regenerator.heads is {self.heads}; the "
                "dimension must be a multiple of the heads."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.regenerator.dropout is {self.dropout}; it must be at least 0 and below 1.")
        check_within("model.regenerator.learning_rate", self.learning_rate, 0, 1)
        check_choice("model.regenerator.windows", self.windows, ("last", "chunks"))
        self.loss.check()


@dataclass
class DecodingConfig:
    """Adaptive contrastive decoding: what stands in the place of an event of another domain.

    Attributes:
        scores: ``global-local`` (code): the global score decides whether an event is replaced or deleted, the local one
            by what; ``global`` decides both; ``local`` deletes nothing. Ablations.
        source_experts: subtract what the other domain's expert would say (code); off is an ablation.
        entropy: weigh the target expert by the entropy of its probabilities (code); off weighs it by 2, as if each
            weight were 1.
        divergence: weigh the source expert by its divergence from the mixed model (code); off weighs it by 1.
        js: ``reversed``, the terms of (KL(m|p) + KL(m|q)) / 2 (code), or ``standard``, those of the Jensen-Shannon
            divergence, (KL(p|m) + KL(q|m)) / 2.
        space: score ``logits`` (code) or log-``probabilities``, which do not change when all logits grow by the same.
        local_argmax: a replaced event takes the best item of the target's ``block`` (figure); ``all`` (code) lets an
            item of another domain win, which deletes the event after all.
        plausibility: an item needs this share of the target expert's highest probability; 0 asks for nothing (code).
            The cut of Li et al., ACL 2023, equation 2, is 0.1.
        id_shift: added to the item number that was found; 0. The release adds 1, by an error (see the docs page).
        id_order: how items are numbered inside their domain, which matters only to ``id_shift``: ``seeded``, or by
            ``first-appearance`` over whole histories with their held-out events (code).
    """

    scores: str = "global-local"
    source_experts: bool = True
    entropy: bool = True
    divergence: bool = True
    js: str = "reversed"
    space: str = "logits"
    local_argmax: str = "block"
    plausibility: float = 0.0
    id_shift: int = 0
    id_order: str = "seeded"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.decoding.scores", self.scores, ("global-local", "global", "local"))
        check_choice("model.decoding.js", self.js, ("reversed", "standard"))
        check_choice("model.decoding.space", self.space, ("logits", "probabilities"))
        check_choice("model.decoding.local_argmax", self.local_argmax, ("block", "all"))
        check_choice("model.decoding.id_order", self.id_order, ("seeded", "first-appearance"))
        if not 0 <= self.plausibility < 1:
            raise ConfigurationError(
                f"model.decoding.plausibility is {self.plausibility}; it must be at least 0 and below 1."
            )
        if self.id_shift not in (0, 1):
            raise ConfigurationError(f"model.decoding.id_shift is {self.id_shift}; it must be 0, or 1 for parity.")


@dataclass
class TaesarConfig:
    """Taesar: regenerate, then train a model of one domain on the result.

    Attributes:
        training_data: what the backbone learns from: ``regenerated``; the ``target`` domain's own events (the paper's
            baseline); all events, ``mixed`` (its SASRec_4); or a control in the place of decoding, insertions made
            without a model, at ``insertion_rate`` of the places: ``random-successor`` (what followed the previous item
            of the domain somewhere in training) and ``shifted`` (the number of the user's own item plus one).
        output: rows that the backbone trains on: the ``union`` of the domain's own and the regenerated ones (code), or
            the regenerated ones in their place, ``replace`` (figure).
        insertion_rate: share of the places that the controls fill; 0.4 (our choice).
        models: folder of models of an earlier regeneration (or of its ``seed-N`` folders) that are used instead of
            training new ones; it must know the same items. Empty trains.
        regenerator: the models that regenerate.
        decoding: how they do it.
        backbone: the model of one domain that is trained on the result.
    """

    training_data: str = "regenerated"
    output: str = "union"
    insertion_rate: float = 0.4
    models: str = field(default="", metadata=names_a_file())
    regenerator: RegeneratorConfig = field(default_factory=RegeneratorConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.training_data", self.training_data, TRAINING_DATA)
        check_choice("model.output", self.output, ("union", "replace"))
        check_within("model.insertion_rate", self.insertion_rate, 0, 1)
        self.regenerator.check()
        self.decoding.check()
        self.backbone.check()
