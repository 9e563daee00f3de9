"""Configurations of the shared core's re-rankers. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice
from recascade.errors import ConfigurationError

SCORE_LOSSES = ("listwise_softmax", "attention_rank", "click_log_loss")
USER_INPUTS = ("none", "concatenated", "attended")


@dataclass
class InitialOrderConfig:
    """The initial order has nothing to set."""


@dataclass
class MMRConfig:
    """MMR (Carbonell and Goldstein, SIGIR 1998).

    Attributes:
        trade_offs: values of λ to try; the one with the best monitored metric on the validation lists is taken, the
            greatest of equal ones. 1 is relevance alone.
    """

    trade_offs: list[float] = field(default_factory=lambda: [0.5, 0.7, 0.8, 0.9, 0.95, 1.0])

    def check(self) -> None:
        """Refuse values outside [0, 1]."""
        if not self.trade_offs or not all(0 <= value <= 1 for value in self.trade_offs):
            raise ConfigurationError(
                f"model.trade_offs is {list(self.trade_offs)}; it must hold numbers from 0 (diversity alone) to 1."
            )


@dataclass
class DPPConfig:
    """Greedy MAP inference of a determinantal point process (Chen, Zhang and Zhou, NeurIPS 2018, arXiv 1709.05135).

    Attributes:
        weights: weights of relevance to try; the one with the best monitored metric on the validation lists is taken,
            the greatest of equal ones.
    """

    weights: list[float] = field(default_factory=lambda: [1.0, 2.0, 5.0, 10.0, 50.0])

    def check(self) -> None:
        """Refuse negative values."""
        check_at_least("model.weights", min(self.weights, default=-1), 0)


@dataclass
class ListModelConfig:
    """What all list models have in common; the defaults but for the embeddings are our choice.

    Attributes:
        dimension: width of the streams; 64, LibRerank's hidden width.
        embedding_dimension: width of the embedding of each identity and field; 16 as LibRerank.
        item_identity: give each item a vector of its own beside its fields.
        user: ``none`` reads candidates only, as the published models do; ``concatenated`` joins a vector of history and
            profile; ``attended`` also lets each candidate attend to the history. All models can read the same.
        dropout: rate inside; 0.1.
    """

    dimension: int = 64
    embedding_dimension: int = 16
    item_identity: bool = True
    user: str = "concatenated"
    dropout: float = 0.1

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("model.dimension", self.dimension, 1)
        check_at_least("model.embedding_dimension", self.embedding_dimension, 1)
        check_choice("model.user", self.user, USER_INPUTS)
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1.")


@dataclass
class DLCMConfig(ListModelConfig):
    """DLCM (Ai et al., SIGIR 2018, arXiv 1804.05936).

    Attributes:
        loss: ``attention_rank`` is the paper's.
    """

    loss: str = "attention_rank"

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_choice("model.loss", self.loss, SCORE_LOSSES)


@dataclass
class PRMConfig(ListModelConfig):
    """PRM (Pei et al., RecSys 2019, arXiv 1904.06813).

    Attributes:
        blocks: transformer blocks; 1.
        heads: attention heads; 2.
        loss: ``listwise_softmax`` is the paper's (LibRerank: ``click_log_loss``).
    """

    blocks: int = 1
    heads: int = 2
    loss: str = "listwise_softmax"

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_attention(self.dimension, self.heads)
        check_at_least("model.blocks", self.blocks, 1)
        check_choice("model.loss", self.loss, SCORE_LOSSES)


@dataclass
class SetRankConfig(ListModelConfig):
    """SetRank (Pang et al., SIGIR 2020, arXiv 1912.05891).

    Attributes:
        blocks: attention blocks; 2 (the paper: 6).
        heads: attention heads; 2.
        inducing: learned points through which candidates see each other, 20 in the paper; 0 for direct attention.
        loss: ``attention_rank`` is the paper's.
    """

    blocks: int = 2
    heads: int = 2
    inducing: int = 20
    loss: str = "attention_rank"

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_attention(self.dimension, self.heads)
        check_at_least("model.blocks", self.blocks, 1)
        check_at_least("model.inducing", self.inducing, 0)
        check_choice("model.loss", self.loss, SCORE_LOSSES)


@dataclass
class MIRConfig:
    """MIR (Xi et al., SIGIR 2022, arXiv 2204.09370), which reads history and profile by design.

    Attributes:
        dimension: width of the streams; 64.
        embedding_dimension: width of the embedding of each identity and field; 16.
        item_identity: give each item a vector of its own beside its fields.
        dropout: rate inside; 0.1.
        heads: heads of the attention among the candidates; 2.
        hidden: widths of the last perceptron's hidden layers.
        loss: ``click_log_loss`` is the paper's; the default is PRM's, so that the two differ in the model alone (our
            choice).
    """

    dimension: int = 64
    embedding_dimension: int = 16
    item_identity: bool = True
    dropout: float = 0.1
    heads: int = 2
    hidden: list[int] = field(default_factory=lambda: [64])
    loss: str = "listwise_softmax"

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("model.embedding_dimension", self.embedding_dimension, 1)
        check_at_least("model.hidden", min(self.hidden, default=1), 1)
        check_attention(self.dimension, self.heads)
        check_choice("model.loss", self.loss, SCORE_LOSSES)
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1.")


@dataclass
class Seq2SlateConfig(ListModelConfig):
    """Seq2Slate (Bello et al., 2018, arXiv 1810.02019).

    Attributes:
        prefix: what stands before a slot in training: the order the model writes at that moment (``self``), or clicked
            candidates first (``gold``), which it never sees at serving. Our choice.
    """

    prefix: str = "self"

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_choice("model.prefix", self.prefix, ("self", "gold"))


@dataclass
class NAR4RecConfig(ListModelConfig):
    """A generator of all slots at once, in the manner of NAR4Rec (Ren et al., KDD 2024, arXiv 2402.06871).

    Attributes:
        blocks: blocks of the candidates' encoder; 1.
        heads: attention heads; 2.
        unlikelihood: weight of the loss on unlabelled candidates (after the paper's unlikelihood); 1, 0 for none.
    """

    blocks: int = 1
    heads: int = 2
    unlikelihood: float = 1.0

    def check(self) -> None:
        """Refuse values that cannot work."""
        super().check()
        check_attention(self.dimension, self.heads)
        check_at_least("model.blocks", self.blocks, 1)
        check_at_least("model.unlikelihood", self.unlikelihood, 0)


def check_attention(dimension: int, heads: int) -> None:
    """Refuse heads that do not divide the width.

    Raises:
        ConfigurationError: naming both.
    """
    check_at_least("model.heads", heads, 1)
    check_at_least("model.dimension", dimension, 1)
    if dimension % heads:
        raise ConfigurationError(
            f"model.dimension is {dimension} and model.heads is {heads}; the dimension must be a multiple of the heads."
        )
