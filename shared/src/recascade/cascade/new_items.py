"""Items that came after training: the stages take each for one that they know."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recascade.contracts.retriever import TopK


@dataclass(frozen=True)
class NewItems:
    """Items numbered from ``trained`` on, each with a twin: the known item that all stages take it for (our choice; no
    stage needs to learn, and any stage can be swapped). An instance never changes.

    Attributes:
        trained: size I of the catalogue that the stages were trained on.
        twins: int64 ``[n]``; new item ``trained + j`` is taken for ``twins[j]``.
    """

    trained: int
    twins: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.twins)

    def with_twin(self, item: int, twin: int) -> NewItems:
        """One more item (the next number), or another twin for one that is there.

        Args:
            item: number of the new item, from ``trained`` to ``trained + n``.
            twin: number of a known item.
        """
        place = item - self.trained
        kept = self.twins.clone() if place < len(self) else torch.cat([self.twins, torch.zeros(1, dtype=torch.int64)])
        kept[place] = twin
        return NewItems(self.trained, kept)

    def known(self, items: Tensor) -> Tensor:
        """The same items, new ones replaced by their twins; int64 of any shape."""
        if not len(self):
            return items
        table = torch.cat([torch.arange(self.trained), self.twins])
        return torch.where(items >= 0, table[items.clamp(min=0)], items)

    def beside_twins(self, best: TopK, without: Tensor) -> TopK:
        """The list of one request, with each new item right behind its twin, at the twin's score; as long as before.

        Args:
            best: one row.
            without: int64 ``[T]``, new items that are left out.
        """
        if not len(self):
            return best
        numbers = self.trained + torch.arange(len(self))
        chosen = ~torch.isin(numbers, without)
        place, new = (best.items[0][:, None] == self.twins[chosen][None]).nonzero(as_tuple=True)
        items = torch.cat([best.items[0], numbers[chosen][new]])
        scores = torch.cat([best.scores[0], best.scores[0][place]])
        order = torch.cat([torch.arange(best.items.shape[1]), place]).argsort(stable=True)[: best.items.shape[1]]
        return TopK(items[order][None], scores[order][None])
