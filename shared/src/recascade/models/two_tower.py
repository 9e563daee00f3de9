"""Two towers as one protocol: what a user's vector and an item's vector are, and how they are compared.

What is not of the backbone plugs into its constructor from outside, by two things only: factories of layers
(``recascade.nn.tower.LayerFactory``) for each tower, and the width of an extra input block of each tower.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.nn.functional import normalize

from recascade.contracts.context import Context

Similarity = Literal["inner_product", "cosine"]


@runtime_checkable
class TwoTower(Protocol):
    """A module whose score of a user and an item comes from two vectors that know nothing of each other.

    Attributes:
        user_width: width of a user's vector; several vectors per user are flattened.
        item_width: width of an item's vector, flattened as well.
        history_length: how many of the latest events of a context the user tower reads; 0 for none.
        single_inner_product: the score is the inner product of both vectors (then of one width), so that an index of
            item vectors finds the best items.
    """

    user_width: int
    item_width: int
    history_length: int
    single_inner_product: bool

    def user_vectors(self, context: Context, extra: Tensor | None = None) -> Tensor:
        """float32 ``[B, user_width]``.

        Args:
            context: B requests; events older than ``history_length`` are not read.
            extra: float32 ``[B, user_extra]`` further inputs, of the width that the constructor was given; None for
                zeros.
        """
        ...

    def item_vectors(self, items: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """float32 ``[n, item_width]`` of these items (int64 ``[n]``, -1 for unknown), or of the whole catalogue.

        Args:
            items: int64 ``[n]``.
            extra: float32 ``[n, item_extra]``, as for users.
        """
        ...

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """``[B]``, of user vectors ``[B, user_width]`` each with the item vector ``[B, item_width]`` of its row."""
        ...

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """``[B, n]``, of user vectors ``[B, user_width]`` with all of the item vectors ``[n, item_width]``."""
        ...


@runtime_checkable
class AuxiliaryLoss(Protocol):
    """Two towers that add a loss of their own to the caller's."""

    def auxiliary_loss(
        self, context: Context, items: Tensor, users: Tensor, item_vectors: Tensor, labels: Tensor
    ) -> Tensor:
        """Scalar, weighted as the constructor was told, to be added to the loss of the B events.

        Args:
            context: the B requests.
            items: int64 ``[B]``.
            users: ``[B, user_width]``, what ``user_vectors`` gave for the context.
            item_vectors: ``[B, item_width]``, what ``item_vectors`` gave for the items.
            labels: float32 ``[B]``, 0 or 1.
        """
        ...


class InnerProduct:
    """The scores of towers with one vector per user and per item."""

    single_inner_product = True

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """See ``TwoTower.score``."""
        return (users * items).sum(1)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """See ``TwoTower.scores``."""
        return users @ items.T


def compared_by(similarity: Similarity, vectors: Tensor) -> Tensor:
    """``[n, d]``: of unit length for ``cosine``, else as they are."""
    return normalize(vectors, dim=1) if similarity == "cosine" else vectors
