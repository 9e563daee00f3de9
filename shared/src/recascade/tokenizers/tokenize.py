"""From an encoded split to its semantic ids, in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split
from recascade.tokenizers.config import TokenizerConfig
from recascade.tokenizers.content import Content, catalogue, content_of
from recascade.tokenizers.contrastive import ContrastiveProjection
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.item_tokenizer import ItemTokenizer
from recascade.tokenizers.quantisers import make_quantiser
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.swing import strongest, swing
from recascade.tokenizers.vectors import unit_length


@dataclass(frozen=True)
class Tokenized:
    """The semantic ids of a split and what they were made of.

    Attributes:
        ids: of the items of the vocabulary, in its order.
        content: their vectors, before tuning.
    """

    ids: SemanticIds
    content: Content


def tokenize(data: EncodedSplit, split: Split, config: TokenizerConfig, seed: int = 0) -> Tokenized:
    """Make vectors of the items' content, quantise them, and settle conflicts.

    Only training events and the catalogue's rows of the vocabulary are read; neither held-out events nor items that
    only they name can change a code.

    Args:
        data: the encoded split.
        split: the same one on disk, for the texts of items.
        config: what to do.
        seed: of every random choice.

    Raises:
        DataError: the content cannot be used.
        ConfigurationError: the configuration cannot work, or not with so few items.
    """
    config.check()
    items = catalogue(split, data.items)
    table = split.items()
    order = items["item_id"] if table is None else table.select("item_id").collect()["item_id"]
    content = content_of(items, order, config.content, seed)
    tokenizer = ItemTokenizer(
        name=config.name,
        quantiser=make_quantiser(config, seed),
        normalise=config.content.normalise,
        projection=_tuning(data, content.vectors, config, seed),
        hashed=HashedLevel(config.levels[-1], tuple(config.hash_keys), config.salt)
        if config.name == "ua-sid"
        else None,
    )
    ids = SemanticIds.build(
        data.items.ids.to_list(),
        content.vectors,
        tokenizer,
        fields=items,
        conflicts=replace(config.conflicts, policy=config.policy),
        fingerprint=data.manifest.fingerprint,
    )
    return Tokenized(ids, content)


def _tuning(
    data: EncodedSplit, vectors: NDArray[np.float32], tokenizer: TokenizerConfig, seed: int
) -> ContrastiveProjection | None:
    config = tokenizer.contrastive
    if not config.epochs:
        return None
    similarity = swing(
        data,
        smoothing=config.smoothing,
        longest_history=config.longest_history,
        users_per_item=config.users_per_item,
        seed=seed,
    )
    if tokenizer.content.normalise:
        vectors = unit_length(vectors)
    return ContrastiveProjection.fit(vectors, strongest(similarity, config.partners), config, seed)
