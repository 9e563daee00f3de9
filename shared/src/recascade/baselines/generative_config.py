"""Configurations of the generative baselines. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice
from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError
from recascade.tokenizers.config import TokenizerConfig


@dataclass
class TIGERConfig:
    """TIGER (Rajput et al., NeurIPS 2023, arXiv 2305.05065), a T5-like encoder–decoder over semantic ids.

    Attributes:
        dimension: width of the stream; 128 as in the paper.
        encoder_blocks: 4 as in the paper.
        decoder_blocks: 4 as in the paper.
        heads: attention heads; 6 as in the paper.
        head_width: width of a head; 64 as in the paper, null for dimension / heads.
        hidden: inner width of the position-wise parts; 1024 as in the paper.
        max_length: events of a history that are read; 20 as in the paper.
        dropout: rate on the input and inside the blocks; 0.1 as in the paper.
        encoder: ``bidirectional`` as in the paper, with one training sequence per target; ``causal`` learns all targets
            of a sequence in one pass, several times faster.
        reading: the encoder reads a token per code (``codes``, the paper) or one per item (``items``, faster).
        user_buckets: hashed users as start tokens; 0 for none (the paper: 2000; GRID finds no use in them).
        code_start: how both tables of codes begin: ``random``, or ``content``, as what each code says of its items'
            vectors (our choice: on Amazon Beauty as good after four epochs as otherwise after eight).
        beams: kept after each level; one number stands for all levels. 50 (our choice; the paper does not say).
        sharing: items that share an id stand in its place in the order of ``popularity``, or ``split`` its probability.
        ids: a file of ``recascade tokenize``; empty makes ids with ``tokenizer``.
        tokenizer: how ids are made.
    """

    dimension: int = 128
    encoder_blocks: int = 4
    decoder_blocks: int = 4
    heads: int = 6
    head_width: int | None = 64
    hidden: int = 1024
    max_length: int = 20
    dropout: float = 0.1
    encoder: str = "bidirectional"
    reading: str = "codes"
    user_buckets: int = 0
    code_start: str = "random"
    beams: list[int] = field(default_factory=lambda: [50])
    sharing: str = "popularity"
    ids: str = field(default="", metadata=names_a_file())
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.encoder", self.encoder, ("bidirectional", "causal"))
        check_at_least("model.encoder_blocks", self.encoder_blocks, 1)
        check_at_least("model.decoder_blocks", self.decoder_blocks, 1)
        _check_shape(self.dimension, self.heads, self.head_width, self.hidden, self.max_length, self.dropout)
        _check_ids(self)


@dataclass
class DecoderOnlyConfig:
    """A decoder-only generator over semantic ids.

    Attributes:
        dimension: width of the stream; 128.
        blocks: 4.
        heads: attention heads; 4.
        head_width: width of a head; null for dimension / heads.
        hidden: inner width of the position-wise parts; 512, four times the dimension.
        max_length: events of a history that are read; 20.
        dropout: rate on the input and inside the blocks; 0.1.
        reading: a token per code of the history (``codes``) or one per item (``items``, faster).
        user_buckets: hashed users as start tokens; 0 for none.
        code_start: how both tables of codes begin: ``random``, or ``content``, as what each code says of its items'
            vectors (our choice).
        beams: kept after each level; one number stands for all levels. 50.
        sharing: items that share an id stand in its place in the order of ``popularity``, or ``split`` its probability.
        ids: a file of ``recascade tokenize``; empty makes ids with ``tokenizer``.
        tokenizer: how ids are made.
    """

    dimension: int = 128
    blocks: int = 4
    heads: int = 4
    head_width: int | None = None
    hidden: int = 512
    max_length: int = 20
    dropout: float = 0.1
    reading: str = "codes"
    user_buckets: int = 0
    code_start: str = "random"
    beams: list[int] = field(default_factory=lambda: [50])
    sharing: str = "popularity"
    ids: str = field(default="", metadata=names_a_file())
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("model.blocks", self.blocks, 1)
        _check_shape(self.dimension, self.heads, self.head_width, self.hidden, self.max_length, self.dropout)
        _check_ids(self)


def _check_shape(
    dimension: int, heads: int, head_width: int | None, hidden: int, max_length: int, dropout: float
) -> None:
    sizes = {"dimension": dimension, "heads": heads, "hidden": hidden, "max_length": max_length}
    for name, value in (sizes | ({} if head_width is None else {"head_width": head_width})).items():
        check_at_least(f"model.{name}", value, 1)
    if head_width is None and dimension % heads:
        raise ConfigurationError(
            f"model.dimension is {dimension} and model.heads is {heads}; the dimension must be a multiple of the "
            "heads, or model.head_width must be set."
        )
    if not 0 <= dropout < 1:
        raise ConfigurationError(f"model.dropout is {dropout}; it must be at least 0 and below 1.")


def _check_ids(settings: TIGERConfig | DecoderOnlyConfig) -> None:
    check_choice("model.reading", settings.reading, ("codes", "items"))
    check_choice("model.code_start", settings.code_start, ("random", "content"))
    check_choice("model.sharing", settings.sharing, ("popularity", "split"))
    check_at_least("model.user_buckets", settings.user_buckets, 0)
    check_at_least("model.beams", min(settings.beams, default=0), 1)
    settings.tokenizer.check()
