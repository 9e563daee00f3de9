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
from recascade.nn.shared_context import SharedContext


@dataclass
class GeneratorCaches:
    """B requests that were read: per block of the decoder the context and the codes of the beams so far."""

    contexts: list[SharedContext]
    batch_size: int
    device: torch.device
    beams: list[BeamCache] = field(default_factory=list)


class CodeGenerator(nn.Module, ABC):
    """A distribution over the next item's codes, each conditioned on the history and the codes before.

    Implements ``recascade.contracts.generator.Generator``. Each level has a table of codes and an output matrix of its
    own (untied, without bias); a learned vector stands before the first code.

    Args:
        history: reads events.
        embedding: of the codes, in histories and in ids alike.
        blocks: of the decoder; each maps ids ``[B, n, s, d]`` and a ``SharedContext`` to ``[B, n, s, d]``, as
            ``recascade.nn.decoder_block.DecoderBlock``.
        one_pass: whether an event's state depends on nothing later, so that targets after every event of a sequence can
            be learned in one pass.
    """

    def __init__(
        self, history: HistoryTokens, embedding: CodeEmbedding, blocks: Sequence[nn.Module], *, one_pass: bool
    ) -> None:
        super().__init__()
        dimension = embedding.table.shape[1]
        self.history = history
        self.embedding = embedding
        self.decoder = nn.ModuleList(blocks)
        self.one_pass = one_pass
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
    def contexts(self, context: Context) -> list[SharedContext]:
        """Read histories: the context of each block of the decoder.

        Raises:
            DataError: a history is longer than ``max_length``.
        """

    def encode(self, context: Context) -> GeneratorCaches:
        """Read B requests, once."""
        return GeneratorCaches(self.contexts(context), context.batch_size, context.offsets.device)

    def log_prob(self, state: GeneratorCaches, codes: Tensor) -> Tensor:
        """Log-probabilities float ``[B, n]`` of whole ids, int64 ``[B, n, L]``."""
        states = self._states(state.contexts, codes)
        parts = [self._log_probs(states[:, :, level], level) for level in range(len(self.sizes))]
        levels = [part.gather(2, codes[..., level, None])[..., 0] for level, part in enumerate(parts)]
        return torch.stack(levels).sum(0)

    def step(self, state: GeneratorCaches, beams: Beams) -> Tensor:
        """Log-probabilities ``[B, n, sizes[t]]`` of the next code after each beam's t codes."""
        level = beams.codes.shape[2]
        if level == 0:
            state.beams = [BeamCache() for _ in self.decoder]
            stream = self.begin.expand(*beams.parents.shape, 1, -1)
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
        visible = self.history.tokens_until(grid.events)
        states = self._states(self.contexts(context), codes[grid.targets], visible if self.one_pass else None)
        return states.flatten(0, 1).index_select(0, grid.cells)

    def output_vectors(self, level: int) -> Tensor:
        """``[sizes[level], d]``: a state's inner products with them are the logits of the level's codes."""
        return self.output.of_level(level)

    def _states(self, contexts: list[SharedContext], codes: Tensor, visible: Tensor | None = None) -> Tensor:
        """``[B, n, L, d]`` for whole ids."""
        begin = self.begin.expand(*codes.shape[:2], 1, -1)
        stream = torch.cat([begin, self.embedding(codes[..., :-1])], dim=2)
        for block, context in zip(self.decoder, contexts, strict=True):
            stream = block(stream, context, visible=visible)
        states: Tensor = self.final_norm(stream)
        return states

    def _log_probs(self, states: Tensor, level: int) -> Tensor:
        logits = states @ self.output_vectors(level).t()
        # Half precision is too coarse for sums over a path of codes.
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
