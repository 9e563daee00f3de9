"""What TIGER and the decoder-only model share: everything but how a history is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams
from recascade.models.code_embedding import CodeEmbedding
from recascade.models.history_tokens import HistoryTokens
from recascade.models.target_grid import TargetGrid
from recascade.nn.beam_cache import BeamCache
from recascade.nn.dropout import dropout as drop
from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext


@dataclass
class GeneratorCaches:
    """B requests that were read: per block of the decoder the context and the codes of the beams so far, and what
    stands before the first code, ``[B, 1, d]``."""

    contexts: list[SharedContext]
    begin: Tensor
    batch_size: int
    device: torch.device
    beams: list[BeamCache] = field(default_factory=list)


class CodeGenerator(nn.Module, ABC):
    """A distribution over the next item's codes, each conditioned on the history and the codes before.

    Implements ``recascade.contracts.generator.Generator``. Each level has a table of codes and an output matrix of its
    own (untied, without bias). A learned vector stands before the first code; in a ``one_pass`` model the tokens of the
    newest event are added to it, as a language model goes on from its last token: nothing else would tell an id where
    its history ends (our choice).

    Args:
        history: reads events.
        embedding: of the codes, in histories and in ids alike.
        blocks: of the decoder; each maps ids ``[B, n, s, d]`` and a ``SharedContext`` to ``[B, n, s, d]``, as
            ``recascade.nn.decoder_block.DecoderBlock``.
        one_pass: whether an event's state depends on nothing later, so that targets after every event of a sequence can
            be learned in one pass.
        dropout: rate on the tokens of the history.
    """

    def __init__(
        self,
        history: HistoryTokens,
        embedding: CodeEmbedding,
        blocks: Sequence[nn.Module],
        *,
        one_pass: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        dimension = embedding.table.shape[1]
        self.history = history
        self.embedding = embedding
        self.decoder = nn.ModuleList(blocks)
        self.one_pass = one_pass
        self.dropout = dropout
        self.begin = nn.Parameter(torch.empty(dimension))
        nn.init.normal_(self.begin, std=0.02)
        self.final_norm = nn.LayerNorm(dimension)
        self.output = CodeEmbedding(embedding.sizes, dimension)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level."""
        return self.embedding.sizes

    @property
    def max_length(self) -> int:
        """The most events of a history."""
        return self.history.max_length

    @abstractmethod
    def contexts(self, tokens: Tensor, layout: PackedLayout) -> list[SharedContext]:
        """The context of each block of the decoder, from the histories' tokens ``[T, d]``, packed."""

    def encode(self, context: Context) -> GeneratorCaches:
        """Read B requests, once.

        Raises:
            DataError: a history is longer than ``max_length``.
        """
        tokens, layout = self._read(context)
        begin = self._begin(tokens, layout, layout.lengths[:, None])
        return GeneratorCaches(self.contexts(tokens, layout), begin, context.batch_size, tokens.device)

    def log_prob(self, state: GeneratorCaches, codes: Tensor) -> Tensor:
        """Log-probabilities float ``[B, n]`` of whole ids, int64 ``[B, n, L]``."""
        begin = state.begin.expand(-1, codes.shape[1], -1)
        states = self._states(state.contexts, begin, codes)
        parts = [self._log_probs(states[:, :, level], level) for level in range(len(self.sizes))]
        levels = [part.gather(2, codes[..., level, None])[..., 0] for level, part in enumerate(parts)]
        return torch.stack(levels).sum(0)

    def step(self, state: GeneratorCaches, beams: Beams) -> Tensor:
        """Log-probabilities ``[B, n, sizes[t]]`` of the next code after each beam's t codes."""
        level = beams.codes.shape[2]
        if level == 0:
            state.beams = [BeamCache() for _ in self.decoder]
            stream = state.begin[:, :, None].expand(-1, beams.parents.shape[1], -1, -1)
        else:
            stream = self.embedding(beams.codes[..., -1:], level - 1)
        for block, context, cache in zip(self.decoder, state.contexts, state.beams, strict=True):
            stream = block(stream, context, cache=cache, parents=beams.parents)
        return self._log_probs(self.final_norm(stream[:, :, 0]), level)

    def target_states(self, context: Context, positions: Tensor, codes: Tensor, owners: Tensor | None) -> Tensor:
        """States ``[N, L, d]`` that predict the codes of N targets, given the true codes before each (teacher forcing).

        Args:
            context: sequences, as in a ``NextItemBatch``.
            positions: int64 ``[P]``, the events after which something is predicted; unless ``one_pass``, each
                sequence's last.
            codes: int64 ``[N, L]``, the targets' ids.
            owners: int64 ``[N]`` or None, see ``NextItemBatch``.
        """
        grid = TargetGrid.of(context, positions, owners)
        tokens, layout = self._read(context)
        visible = self.history.tokens_until(grid.events)
        begin = self._begin(tokens, layout, visible)
        contexts = self.contexts(tokens, layout)
        states = self._states(contexts, begin, codes[grid.targets], visible if self.one_pass else None)
        return states.flatten(0, 1).index_select(0, grid.cells)

    def output_vectors(self, level: int) -> Tensor:
        """``[sizes[level], d]``: a state's inner products with them are the logits of the level's codes."""
        return self.output.of_level(level)

    def _read(self, context: Context) -> tuple[Tensor, PackedLayout]:
        tokens, layout = self.history(context)
        return drop(tokens, self.dropout if self.training else 0.0), layout

    def _begin(self, tokens: Tensor, layout: PackedLayout, visible: Tensor) -> Tensor:
        """``[B, n, d]``: what stands before the first code of ids that see so many tokens (int64 ``[B, n]``)."""
        if not self.one_pass:
            return self.begin.repeat(*visible.shape, 1)
        last = layout.offsets[:-1, None] + visible
        back = torch.arange(1, self.history.per_event + 1, device=last.device)
        # A request without events has its start token only.
        newest = torch.maximum(last[..., None] - back, layout.offsets[:-1, None, None])
        vectors = tokens.index_select(0, newest.flatten()).view(*newest.shape, tokens.shape[1])
        return self.begin + vectors.sum(2)

    def _states(
        self, contexts: list[SharedContext], begin: Tensor, codes: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """``[B, n, L, d]`` for whole ids ``[B, n, L]``."""
        stream = torch.cat([begin[:, :, None], self.embedding(codes[..., :-1])], dim=2)
        for block, context in zip(self.decoder, contexts, strict=True):
            stream = block(stream, context, visible=visible)
        states: Tensor = self.final_norm(stream)
        return states

    def _log_probs(self, states: Tensor, level: int) -> Tensor:
        logits = states @ self.output_vectors(level).t()
        # Half precision is too coarse for sums over a path of codes.
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
