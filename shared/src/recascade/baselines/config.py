"""Configurations of the shared core's own methods. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.baselines.checks import check_blocks, check_sequence_model
from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.training.config import LossConfig


@dataclass
class PopularityConfig:
    """Popularity has nothing to set."""


@dataclass
class PersonalFrequencyConfig:
    """The user's own most frequent items, then popular ones.

    Attributes:
        decay: weight of an event relative to the user's next newer one, in (0, 1]; 1 (default) counts plainly, as the
            baseline of the next-basket literature does.
    """

    decay: float = 1.0

    def check(self) -> None:
        """Refuse a decay outside (0, 1]."""
        check_within("model.decay", self.decay, 0, 1)


@dataclass
class TransitionConfig:
    """The first-order transition table has nothing to set."""


@dataclass
class CoVisitConfig:
    """An untrained co-visitation table; the defaults are those of the survey whose figures it reproduces.

    Attributes:
        window: two events at most this many places apart count as a pair; 5.
        directed: count only from the earlier event to the later one; otherwise in both directions.
        last: events of the history that are read; 5.
        decay: weight of an event relative to the next newer one, in (0, 1]; 0.7.
    """

    window: int = 5
    directed: bool = True
    last: int = 5
    decay: float = 0.7

    def check(self) -> None:
        """Refuse values that leave nothing to count."""
        check_at_least("model.window", self.window, 1)
        check_at_least("model.last", self.last, 1)
        check_within("model.decay", self.decay, 0, 1)


@dataclass
class ItemKNNConfig:
    """Item-based nearest neighbours by cosine.

    Attributes:
        neighbours: most similar items kept per item; 100 (our choice, usual in the literature).
        shrinkage: added to the denominator, so that few common users count for less; 10 (our choice), 0 for none.
    """

    neighbours: int = 100
    shrinkage: float = 10.0

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("model.neighbours", self.neighbours, 1)
        check_at_least("model.shrinkage", self.shrinkage, 0)


@dataclass
class TransitionSimilarityConfig:
    """The transition-graph heuristic of Han et al., 2026 (arXiv 2605.07125), on words instead of item vectors.

    Attributes:
        sources: ``last`` walks the graph from the last item, ``last-two`` from the last two; both are the paper's.
        edge_weight: weight of the transition counts beside the similarity, for direct successors; 0.5.
    """

    sources: str = "last"
    edge_weight: float = 0.5

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.sources", self.sources, ("last", "last-two"))
        check_at_least("model.edge_weight", self.edge_weight, 0)


@dataclass
class SASRecConfig:
    """SASRec (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    Attributes:
        dimension: width of item vectors and states; 64 (the paper: 50).
        blocks: transformer blocks; 2 as in the paper.
        heads: attention heads; 1 as in the paper.
        max_length: events of a history that are read; 50 as in the paper for Amazon (200 for MovieLens-1M).
        dropout: rate on the input and inside the blocks; 0.2 as in the paper for MovieLens-1M (0.5 for sparse data).
        order: of the layers in a block; ``release`` as in the authors' code, or ``pre_norm`` as in the paper's text.
        positions: counted ``from_start`` of what is read, or ``from_end``, as left-padding peers do.
        output_projection: join the heads by a matrix, as re-implementations do (the authors' code: no).
        windows: train on the ``last`` ``max_length`` + 1 events of a user, as the paper does, or on all in ``chunks``.
        loss: what is minimised; the full softmax by default (the paper: binary cross-entropy with one negative).
    """

    dimension: int = 64
    blocks: int = 2
    heads: int = 1
    max_length: int = 50
    dropout: float = 0.2
    order: str = "release"
    positions: str = "from_start"
    output_projection: bool = True
    windows: str = "last"
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_sequence_model(self.dimension, self.max_length, self.dropout, self.windows, self.loss)
        check_blocks(self.dimension, self.blocks, self.heads)
        check_choice("model.order", self.order, ("release", "pre_norm"))
        check_choice("model.positions", self.positions, ("from_start", "from_end"))


@dataclass
class CL4SRecConfig(SASRecConfig):
    """CL4SRec (Xie et al., ICDE 2022, arXiv 2010.14395): SASRec with a contrast of altered histories.

    Attributes:
        dimension: as for SASRec, like the others up to ``loss``; 64.
        blocks: 2.
        heads: 1.
        max_length: 50.
        dropout: 0.2.
        order: ``release``.
        positions: ``from_start``.
        output_projection: true.
        windows: ``last``.
        loss: of the next items; the full softmax.
        contrast: λ, weight of the contrast beside the loss of the next items; 0.1 as in the paper.
        crop_share: η, share of a history that a crop keeps; 0.6 (our choice from the paper's grid, 0.1 to 0.9).
        mask_share: γ, share of the events that are masked; 0.3 (likewise).
        reorder_share: β, share of a history that is shuffled; 0.6 (likewise).
    """

    contrast: float = 0.1
    crop_share: float = 0.6
    mask_share: float = 0.3
    reorder_share: float = 0.6

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_at_least("model.contrast", self.contrast, 0)
        for name in ("crop_share", "mask_share", "reorder_share"):
            check_within(f"model.{name}", getattr(self, name), 0, 1)


@dataclass
class HSTUConfig:
    """HSTU (Zhai et al., ICML 2024, arXiv 2402.17152).

    Attributes:
        dimension: width of item vectors and states; 64.
        blocks: HSTU layers; 2.
        heads: heads of the pointwise attention; 1.
        max_length: events of a history that are read; 50.
        dropout: rate on the input and inside the layers; 0.2.
        position_bias: learn a bias for each distance in positions, as the release does.
        time_buckets: learn a bias for each of this many buckets of time differences; 128 as the release. Without effect
            where the data have no times.
        normaliser: divide the attention by ``max_length``, as the release does, or by the number of ``visible`` events.
        output: ``layer_norm`` of the last state, or ``unit_length`` of states and items, as the release does with a
            temperature of 0.05.
        windows: train on the ``last`` ``max_length`` + 1 events of a user or on all of them in ``chunks``.
        loss: what is minimised; the full softmax by default (the release: sampled softmax).
    """

    dimension: int = 64
    blocks: int = 2
    heads: int = 1
    max_length: int = 50
    dropout: float = 0.2
    position_bias: bool = True
    time_buckets: int = 128
    normaliser: str = "max_length"
    output: str = "layer_norm"
    windows: str = "last"
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_sequence_model(self.dimension, self.max_length, self.dropout, self.windows, self.loss)
        check_blocks(self.dimension, self.blocks, self.heads)
        check_at_least("model.time_buckets", self.time_buckets, 0)
        check_choice("model.normaliser", self.normaliser, ("max_length", "visible"))
        check_choice("model.output", self.output, ("layer_norm", "unit_length"))


@dataclass
class GRU4RecConfig:
    """GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939) on whole user histories.

    Attributes:
        dimension: width of item vectors; 64.
        hidden: width of the recurrent state; null for ``dimension`` (the paper: 100 to 1000).
        layers: recurrent layers; 1, the paper's best.
        max_length: events of a history that are read; 50.
        dropout: rate on the input and on the states; 0.2.
        constrained: score items with the vectors that are read, an option of the authors' release; the papers' items
            have vectors of their own.
        windows: train on the ``last`` ``max_length`` + 1 events of a user or on all of them in ``chunks``.
        loss: what is minimised; the full softmax by default (the paper: TOP1 and BPR over the batch's items).
    """

    dimension: int = 64
    hidden: int | None = None
    layers: int = 1
    max_length: int = 50
    dropout: float = 0.2
    constrained: bool = True
    windows: str = "last"
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_sequence_model(self.dimension, self.max_length, self.dropout, self.windows, self.loss)
        check_at_least("model.layers", self.layers, 1)
        if self.hidden is not None:
            check_at_least("model.hidden", self.hidden, 1)


@dataclass
class DSSMConfig:
    """DSSM, two towers (Huang et al., CIKM 2013): the user's from recent items and features, the item's from features.

    Attributes:
        dimension: width of the common space, and of the embeddings of identities and features that the towers read side
            by side; 64 (the paper: 128).
        hidden: widths of the towers' hidden layers; one of 128 (the paper: two of 300).
        recent: latest events that the user tower averages; 20.
        max_length: events of a history that are read in training; 50.
        dropout: rate inside the user tower; 0.2.
        item_features: read the features of items beside their identity.
        user_features: read the features of users.
        user_identity: give each user of training a vector of its own.
        similarity: ``inner_product``, or ``cosine`` as in the paper, which wants a temperature of about 0.05.
        windows: train on the ``last`` ``max_length`` + 1 events of a user or on all of them in ``chunks``.
        loss: what is minimised; the full softmax by default.
    """

    dimension: int = 64
    hidden: list[int] = field(default_factory=lambda: [128])
    recent: int = 20
    max_length: int = 50
    dropout: float = 0.2
    item_features: bool = True
    user_features: bool = True
    user_identity: bool = False
    similarity: str = "inner_product"
    windows: str = "last"
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_sequence_model(self.dimension, self.max_length, self.dropout, self.windows, self.loss)
        check_at_least("model.recent", self.recent, 1)
        check_at_least("model.hidden", min(self.hidden, default=1), 1)
        check_choice("model.similarity", self.similarity, ("inner_product", "cosine"))
