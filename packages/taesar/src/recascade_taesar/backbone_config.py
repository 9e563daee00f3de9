"""The model that is trained on regenerated data. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice
from recascade.errors import ConfigurationError
from recascade.training.config import LossConfig

BACKBONES = ("sasrec", "gru4rec", "hstu", "cl4srec")


@dataclass
class BackboneConfig:
    """A sequential model of one domain; whatever else it has stays at the defaults of ``recascade.models``.

    Attributes:
        name: ``sasrec``, ``gru4rec``, ``hstu`` or ``cl4srec``.
        dimension: width of item vectors and states; 64.
        blocks: transformer blocks or recurrent layers; 2 (GRU4Rec: 1 is the papers' best).
        heads: attention heads; 1.
        max_length: events of a history that are read; 50.
        dropout: rate on the input and inside the blocks; 0.2.
        windows: train on the ``last`` ``max_length`` + 1 events or on all in ``chunks``.
        contrast: weight of CL4SRec's contrastive loss; 0.1 (its paper).
        loss: of the next items; the full softmax.
    """

    name: str = "sasrec"
    dimension: int = 64
    blocks: int = 2
    heads: int = 1
    max_length: int = 50
    dropout: float = 0.2
    windows: str = "last"
    contrast: float = 0.1
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_choice("model.backbone.name", self.name, BACKBONES)
        for name in ("dimension", "blocks", "heads", "max_length"):
            check_at_least(f"model.backbone.{name}", getattr(self, name), 1)
        check_at_least("model.backbone.contrast", self.contrast, 0)
        check_choice("model.backbone.windows", self.windows, ("last", "chunks"))
        if self.dimension % self.heads:
            raise ConfigurationError(
                f"model.backbone.dimension is {self.dimension} and model.backbone.heads is {self.heads}; the dimension "
                "must be a multiple of the heads."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.backbone.dropout is {self.dropout}; it must be at least 0 and below 1.")
        self.loss.check()
