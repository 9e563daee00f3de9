"""The generative ranker and its training. Importable without torch.

The paper's model sizes and training are not public; all defaults are our choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recascade.contracts.checks import check_at_least, check_choice, check_within
from recascade.errors import ConfigurationError


@dataclass
class CandidatesConfig:
    """What the ranker learns to tell apart, and what it is given to rank.

    Attributes:
        places: of each training history, drawn anew at each step, at which it ranks; 16.
        negatives: beside each target; 24.
        own: share of the negatives that are drawn from the history itself, as the shortlist will hold the user's own
            items; 0.5. Their count follows how often the user had them.
        popularity: exponent of the popularity that the other negatives are drawn by; 0.75.
        shortlist: candidates that the ranker gets of each request; 500; 0 for the whole catalogue.
        decay: of the shortlist: the user's own items by frequency, each event weighing this much relative to the next
            newer one, then popular items; 1.
    """

    places: int = 16
    negatives: int = 24
    own: float = 0.5
    popularity: float = 0.75
    shortlist: int = 500
    decay: float = 1.0


@dataclass
class RelayGRConfig:
    """The ranker on an HSTU trunk.

    Attributes:
        dimension: width of item vectors and tokens; 64.
        blocks: layers; 2.
        heads: of the pointwise attention; 2.
        max_length: events of a history that are read; 1024. What the relay is for: a long history at the price of a
            short one.
        dropout: rate on the input and in the layers; 0.1.
        time_buckets: learn a bias of candidates for each logarithmic bucket of the time since an event; 64. Without
            effect where the data have no times.
        normaliser: constant that divides what attention gathers; 64.
        repetitions: tell each candidate how often the user had it, counted in the ranking stage; on.
        windows: train on the ``last`` ``max_length`` + 1 events of a user or on all of them in ``chunks``.
        candidates: what is ranked.
    """

    dimension: int = 64
    blocks: int = 2
    heads: int = 2
    max_length: int = 1024
    dropout: float = 0.1
    time_buckets: int = 64
    normaliser: float = 64.0
    repetitions: bool = True
    windows: str = "last"
    candidates: CandidatesConfig = field(default_factory=CandidatesConfig)

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        for name in ("dimension", "blocks", "heads", "max_length"):
            check_at_least(f"model.{name}", getattr(self, name), 1)
        check_at_least("model.time_buckets", self.time_buckets, 0)
        check_within("model.normaliser", self.normaliser, 0, 1e6)
        check_choice("model.windows", self.windows, ("last", "chunks"))
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1.")
        if self.dimension % self.heads:
            raise ConfigurationError(
                f"model.dimension is {self.dimension} and model.heads is {self.heads}; the width must be a multiple of "
                "the heads."
            )
        candidates = self.candidates
        check_at_least("model.candidates.places", candidates.places, 1)
        check_at_least("model.candidates.negatives", candidates.negatives, 1)
        check_at_least("model.candidates.shortlist", candidates.shortlist, 0)
        check_at_least("model.candidates.popularity", candidates.popularity, 0)
        check_within("model.candidates.decay", candidates.decay, 0, 1)
        if not 0 <= candidates.own <= 1:
            raise ConfigurationError(f"model.candidates.own is {candidates.own}; it must be between 0 and 1.")
