"""LazyAR: a decoder whose lower layers do not wait for the code before (GR4AD, §3.2, equations 5 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.contracts.generator import Beams
from recascade.errors import ConfigurationError
from recascade.models.code_embedding import CodeEmbedding
from recascade.models.history_tokens import HistoryTokens, Reading
from recascade.models.target_grid import TargetGrid
from recascade.nn.beam_cache import BeamCache
from recascade.nn.shared_context import SharedContext
from recascade_gr4ad.context_processor import ContextProcessor
from recascade_gr4ad.fusion import FUSIONS
from recascade_gr4ad.lazy_block import LazyBlock

if TYPE_CHECKING:
    from recascade.data.features import FeatureTable

Fusion = Literal["residual", "gated", "add"]


@dataclass
class LazyState:
    """B requests that were read.

    Attributes:
        contexts: keys and values of each layer of the decoder.
        trunk: ``[B, 1, T', d]``, the states m^(K) of all T' steps, the same for every id of a request.
        batch_size: B.
        device: where the requests are.
        beams: caches of the layers above the trunk.
        layer_tokens: layers times positions computed so far for one request: the unit of decoding work.
    """

    contexts: list[SharedContext]
    trunk: Tensor
    batch_size: int
    device: torch.device
    beams: list[BeamCache] = field(default_factory=list)
    layer_tokens: int = 0


class TargetStates(NamedTuple):
    """What N training targets are predicted from: ``next_token`` ``[N, T', d]`` with the true codes before each step,
    ``multi_token`` ``[N, T, d]`` without any, or None where nobody asked for it."""

    next_token: Tensor
    multi_token: Tensor | None


class LazyAR(nn.Module):
    """A distribution over the T codes of an ad's id and, as one more step, over the bucket of its eCPM.

    The lower ``trunk_layers`` (K) of ``layers`` (L) read the context and the number of the step alone, so they run once
    per request for all steps and all beams; the upper ones see the code before through ``Fuse``. K = 0 with additive
    fusion and ``fuse_first`` is the plain autoregressive decoder, exactly. Implements
    ``recascade.contracts.generator.Generator``.

    Each level has a table of codes and an output matrix of its own (the paper says neither tied nor untied). The norm
    before the output matrices is our choice.

    Args:
        codes: int64 ``[I, T]``, the ids of the items.
        sizes: codes per level.
        dimension: width d of the stream.
        layers: L.
        trunk_layers: K, below L.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise parts.
        fusion: ``residual``, the paper's gate with a path past it; ``gated``, the paper's; or ``add``.
        fuse_first: fuse a learned begin vector at the first step (the paper's text); else the first step goes straight
            up (its figure 1).
        value_buckets: of the eCPM step; 0 for none, then T' = T.
        context_sets: sets of keys and values that the layers share in order; 0 for one per layer.
        max_length: the most events of a history.
        dropout: rate on the context and inside the blocks.
        reading: ``codes`` or ``items``, see ``HistoryTokens``.
        user_buckets: start tokens of hashed users; 0 for none.
        user_features: structured features of the users, or None.
    """

    def __init__(
        self,
        codes: Tensor,
        sizes: Sequence[int],
        *,
        dimension: int = 64,
        layers: int = 6,
        trunk_layers: int = 4,
        heads: int = 4,
        head_width: int | None = None,
        hidden: int = 256,
        fusion: Fusion = "residual",
        fuse_first: bool = False,
        value_buckets: int = 0,
        context_sets: int = 0,
        max_length: int = 20,
        dropout: float = 0.1,
        reading: Reading = "items",
        user_buckets: int = 0,
        user_features: FeatureTable | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= trunk_layers < layers:
            raise ConfigurationError(
                f"There are {trunk_layers} trunk layers of {layers}; at least one layer must see the code before."
            )
        self.embedding = CodeEmbedding(sizes, dimension)
        # Places are counted from the newest event: nothing else tells cross-attention how recent an event is.
        history = HistoryTokens(
            codes, self.embedding, max_length, reading=reading, from_end=True, user_buckets=user_buckets
        )
        sets = context_sets or layers
        self.context_processor = ContextProcessor(
            history, heads=heads, head_width=head_width, sets=sets, user_features=user_features, dropout=dropout
        )
        self.set_of_layer = [layer * sets // layers for layer in range(layers)]
        self.trunk_layers = trunk_layers
        self.value_buckets = value_buckets
        self.blocks = nn.ModuleList(LazyBlock(dimension, heads, head_width, hidden, dropout) for _ in range(layers))
        self.fuse = FUSIONS[fusion](dimension)
        heads_sizes = (*sizes, *([value_buckets] if value_buckets else []))
        self.steps = nn.Parameter(torch.empty(len(heads_sizes), dimension))
        nn.init.normal_(self.steps, std=0.02)
        self.begin = nn.Parameter(torch.empty(dimension)) if fuse_first else None
        if self.begin is not None:
            nn.init.normal_(self.begin, std=0.02)
        self.final_norm = nn.LayerNorm(dimension)
        self.output = CodeEmbedding(heads_sizes, dimension)

    @property
    def history(self) -> HistoryTokens:
        """What reads events; its ``item_codes`` are the ids of the items."""
        return self.context_processor.history

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, without the eCPM step."""
        return self.embedding.sizes

    @property
    def max_length(self) -> int:
        """The most events of a history."""
        return self.history.max_length

    def encode(self, context: Context) -> LazyState:
        """Read B requests and run the trunk, once.

        Raises:
            DataError: a history is longer than ``max_length``.
        """
        sets = self.context_processor(context)
        contexts = [sets[chosen] for chosen in self.set_of_layer]
        trunk = self.steps.repeat(context.batch_size, 1, 1, 1)
        for block, shared in zip(self.blocks[: self.trunk_layers], contexts, strict=False):
            trunk = block(trunk, shared)
        work = self.trunk_layers * len(self.steps)
        return LazyState(contexts, trunk, context.batch_size, trunk.device, layer_tokens=work)

    def log_prob(self, state: LazyState, codes: Tensor) -> Tensor:
        """Log-probabilities float ``[B, n]`` of whole ids, int64 ``[B, n, T]``, the eCPM step left out."""
        states = self._next_token_states(state, codes, len(self.sizes))
        parts = [self._log_probs(states[:, :, level], level) for level in range(len(self.sizes))]
        levels = [part.gather(2, codes[..., level, None])[..., 0] for level, part in enumerate(parts)]
        return torch.stack(levels).sum(0)

    def step(self, state: LazyState, beams: Beams) -> Tensor:
        """Log-probabilities ``[B, n, sizes[t]]`` of the next code after each beam's t codes; after all T codes those
        ``[B, n, value_buckets]`` of the eCPM bucket."""
        step = beams.codes.shape[2]
        if step == 0:
            state.beams = [BeamCache() for _ in self.blocks[self.trunk_layers :]]
        trunk = state.trunk[:, :, step : step + 1].expand(-1, beams.parents.shape[1], -1, -1)
        if step > 0:
            stream = self.fuse(trunk, self.embedding(beams.codes[..., -1:], step - 1))
        else:
            stream = trunk if self.begin is None else self.fuse(trunk, self.begin.expand_as(trunk))
        upper = zip(self.blocks[self.trunk_layers :], state.contexts[self.trunk_layers :], state.beams, strict=True)
        for block, context, cache in upper:
            stream = block(stream, context, cache=cache, parents=beams.parents)
        state.layer_tokens += (len(self.blocks) - self.trunk_layers) * beams.parents.shape[1]
        return self._log_probs(self.final_norm(stream[:, :, 0]), step)

    def target_states(
        self, context: Context, positions: Tensor, codes: Tensor, owners: Tensor | None, *, multi_token: bool = True
    ) -> TargetStates:
        """What N targets are predicted from, in one pass: the trunk once, the upper layers once with the true codes
        and once without (multi-token prediction, §3.3).

        Args:
            context: sequences, as in a ``NextItemBatch``.
            positions: int64 ``[B]``, each sequence's last event.
            codes: int64 ``[N, T]``, the targets' ids.
            owners: int64 ``[N]``, see ``NextItemBatch``; None for one target of each sequence, N = B.
            multi_token: whether to run the upper layers once more for ``multi_token``.
        """
        state = self.encode(context)
        if owners is None:
            next_token = self._next_token_states(state, codes[:, None], len(self.steps))[:, 0]
            return TargetStates(next_token, self.multi_token_states(state) if multi_token else None)
        grid = TargetGrid.of(context, positions, owners)
        states = self._next_token_states(state, codes[grid.targets], len(self.steps))
        requests = grid.cells // grid.targets.shape[1]
        return TargetStates(
            states.flatten(0, 1).index_select(0, grid.cells),
            self.multi_token_states(state).index_select(0, requests) if multi_token else None,
        )

    def multi_token_states(self, state: LazyState) -> Tensor:
        """``[B, T, d]``: the upper layers on the trunk alone, ``Fuse`` left out."""
        return self._finish(state, state.trunk[:, :, : len(self.sizes)])[:, 0]

    def output_vectors(self, step: int) -> Tensor:
        """``[sizes[step], d]`` (for the last of T' steps ``[value_buckets, d]``): a state's inner products with them
        are the logits."""
        return self.output.of_level(step)

    def _next_token_states(self, state: LazyState, codes: Tensor, steps: int) -> Tensor:
        """``[B, n, steps, d]`` for whole ids ``[B, n, T]``."""
        trunk = state.trunk[:, :, :steps].expand(-1, codes.shape[1], -1, -1)
        first, rest = trunk[:, :, :1], trunk[:, :, 1:]
        if self.begin is not None:
            first = self.fuse(first, self.begin.expand_as(first))
        return self._finish(state, torch.cat([first, self.fuse(rest, self.embedding(codes[..., : steps - 1]))], dim=2))

    def _finish(self, state: LazyState, stream: Tensor) -> Tensor:
        """The upper layers over all steps at once."""
        for block, context in zip(self.blocks[self.trunk_layers :], state.contexts[self.trunk_layers :], strict=True):
            stream = block(stream, context)
        states: Tensor = self.final_norm(stream)
        return states

    def _log_probs(self, states: Tensor, step: int) -> Tensor:
        logits = states @ self.output_vectors(step).t()
        # Half precision is too coarse for sums over a path of codes.
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def decoding_work(layers: int, trunk_layers: int, steps: int, widths: Sequence[int]) -> int:
    """Layers times positions that one request costs: ``K T' + (L - K) (1 + B_1 + … )`` (derived from §3.2).

    Args:
        layers: L.
        trunk_layers: K.
        steps: T', the eCPM step included.
        widths: of the beams after each of the T levels; the last one costs only where an eCPM step follows.
    """
    entering = (1, *widths)[:steps]
    return trunk_layers * steps + (layers - trunk_layers) * sum(entering)
