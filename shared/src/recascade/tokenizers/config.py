"""How items become semantic ids. Importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recascade.contracts.named_files import names_a_file
from recascade.errors import ConfigurationError, did_you_mean

# Name → sizes where none are given. 3 × 256 as in TIGER; UA-SID's have the same 2^24 codes, spread as the paper's
# 16384-4096-1024 are against 3 × 4096.
SIZES = {
    "residual-k-means": (256, 256, 256),
    "ua-sid": (1024, 256, 64),
    "rq-vae": (256, 256, 256),
    "residual-vq": (256, 256, 256),
    "product-codes": (256, 256, 256, 256),
}
POLICIES = ("allow", "digit", "reassign")


@dataclass
class ContentConfig:
    """What is known of an item, as a vector.

    Attributes:
        source: ``text`` (TF-IDF and a truncated singular value decomposition of the catalogue's columns),
            ``sentence-transformers``, or the path of a ``.npy`` or ``.parquet`` file with one vector per item.
        columns: of items.parquet; texts are cut into words, lists and short values count as one term each. Empty:
            title, text, categories and brand, as far as they are there.
        dimension: of the ``text`` vectors; 256 (our choice: neighbours of 256 numbers predict the next item on the
            validation part of Amazon Beauty and Sports better than those of 128 or 64).
        model: name or folder of a sentence-transformers model.
        normalise: scale vectors to length 1 (GR4AD, inferred).
        missing: items of which nothing is known get the ``mean`` of the other vectors, or are an ``error``.
    """

    source: str = field(default="text", metadata=names_a_file("text", "sentence-transformers"))
    columns: list[str] = field(default_factory=list)
    dimension: int = 256
    model: str = "sentence-t5-base"
    normalise: bool = True
    missing: str = "mean"

    def check(self) -> None:
        """Refuse values that cannot work."""
        _at_least("content.dimension", self.dimension, 1)
        _one_of("content.missing", self.missing, ("mean", "error"))


@dataclass
class ContrastiveConfig:
    """Tuning of the vectors towards what the same users take (GR4AD §3.1, "co-occurrence learning", eq. 1).

    Attributes:
        epochs: passes over the items that have a partner; 0 leaves the vectors as they are.
        batch: pairs of an item and a partner per step; 256 (the paper gives none).
        temperature: τ; 0.07 (the paper gives none).
        hidden: width of the perceptron that is added to the vectors; 256 (our choice).
        learning_rate: of Adam.
        partners: strongest Swing partners of an item that count as positives; 20 (the paper gives none).
        smoothing: Swing's α; 1, as commonly published.
        longest_history: latest distinct training items of a user that Swing reads; 50 (our choice, bounds its cost).
        users_per_item: users of an item that Swing compares, drawn at random; 200 (our choice, bounds its cost).
    """

    epochs: int = 0
    batch: int = 256
    temperature: float = 0.07
    hidden: int = 256
    learning_rate: float = 1e-3
    partners: int = 20
    smoothing: float = 1.0
    longest_history: int = 50
    users_per_item: int = 200

    def check(self) -> None:
        """Refuse values that cannot work."""
        _at_least("contrastive.epochs", self.epochs, 0)
        for name in ("batch", "longest_history", "users_per_item"):
            _at_least(f"contrastive.{name}", getattr(self, name), 2)
        for name in ("hidden", "partners"):
            _at_least(f"contrastive.{name}", getattr(self, name), 1)
        for name in ("temperature", "learning_rate", "smoothing"):
            _above_zero(f"contrastive.{name}", getattr(self, name))


@dataclass
class ClusteringConfig:
    """k-means of a level, for ``residual-k-means``, ``ua-sid`` and ``product-codes``.

    Attributes:
        balanced: cap the items of a code; null: only for ``ua-sid``, as the paper does.
        slack: the cap is ⌈slack · items / codes⌉; 1.
        iterations: Lloyd's iterations on a sample; 20.
        balanced_iterations: iterations of capped assignment on all items after those; 3.
        sample_per_cluster: items per code in the sample; 256, as in faiss.
    """

    balanced: bool | None = None
    slack: float = 1.0
    iterations: int = 20
    balanced_iterations: int = 3
    sample_per_cluster: int = 256

    def check(self) -> None:
        """Refuse values that cannot work."""
        _at_least("clustering.slack", self.slack, 1)
        _at_least("clustering.iterations", self.iterations, 1)
        _at_least("clustering.balanced_iterations", self.balanced_iterations, 0)
        _at_least("clustering.sample_per_cluster", self.sample_per_cluster, 1)


@dataclass
class GradientConfig:
    """Training of ``rq-vae`` and ``residual-vq``.

    Attributes:
        steps: of Adam; per level for ``residual-vq``, which learns one after the other.
        batch: items per step; 1024 as in TIGER.
        learning_rate: of Adam; 1e-3.
        hidden: widths of the encoder's hidden layers, the decoder's reversed (``rq-vae``); TIGER's 512, 256, 128 less
            the first, since the vectors are short.
        latent: width of what is quantised (``rq-vae``); 32 as in TIGER.
        commitment: weight β of the commitment loss (``rq-vae``); 0.25 as in TIGER.
    """

    steps: int = 1000
    batch: int = 1024
    learning_rate: float = 1e-3
    hidden: list[int] = field(default_factory=lambda: [256, 128])
    latent: int = 32
    commitment: float = 0.25

    def check(self) -> None:
        """Refuse values that cannot work."""
        for name in ("steps", "batch", "latent"):
            _at_least(f"gradient.{name}", getattr(self, name), 1)
        _at_least("gradient.hidden", min(self.hidden, default=1), 1)
        _above_zero("gradient.learning_rate", self.learning_rate)
        _at_least("gradient.commitment", self.commitment, 0)


@dataclass
class ConflictConfig:
    """What happens when several items get one code.

    Attributes:
        policy: ``allow`` (an id stands for a list of items, as in GR4AD), ``digit`` (one more level counts them, as in
            TIGER), ``reassign`` (Sinkhorn's balancing moves them to free codes of the last level, as in LC-Rec); null:
            ``allow`` for ``ua-sid``, ``digit`` for the others.
        digit_size: codes of the added level; 0: TIGER's 256, or twice the items of the fullest code if that is more.
        temperature: of ``reassign``, relative to the mean distance; 0.05 (our choice).
        iterations: of ``reassign``; 50 as in LC-Rec's release.
    """

    policy: str | None = None
    digit_size: int = 0
    temperature: float = 0.05
    iterations: int = 50

    def check(self) -> None:
        """Refuse values that cannot work."""
        if self.policy is not None:
            _one_of("conflicts.policy", self.policy, POLICIES)
        _at_least("conflicts.digit_size", self.digit_size, 0)
        _above_zero("conflicts.temperature", self.temperature)
        _at_least("conflicts.iterations", self.iterations, 1)


@dataclass
class TokenizerConfig:
    """From a catalogue to semantic ids.

    Attributes:
        name: the quantiser: ``residual-k-means``, ``ua-sid``, ``rq-vae``, ``residual-vq`` or ``product-codes``.
        sizes: codes per level, the hashed one of ``ua-sid`` included; empty: 256 each, or 1024, 256, 64 for ``ua-sid``.
        hash_keys: fields of items.parquet that ``ua-sid`` hashes into its last level; the paper names item id, account
            id and conversion type.
        salt: of that hash.
        content: the vectors.
        contrastive: their tuning.
        clustering: k-means.
        gradient: training of the learned quantisers.
        conflicts: when several items get one code.
    """

    name: str = "residual-k-means"
    sizes: list[int] = field(default_factory=list)
    hash_keys: list[str] = field(default_factory=lambda: ["item_id"])
    salt: int = 0
    content: ContentConfig = field(default_factory=ContentConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    gradient: GradientConfig = field(default_factory=GradientConfig)
    conflicts: ConflictConfig = field(default_factory=ConflictConfig)

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the key, its value and what it may be.
        """
        _one_of("name", self.name, SIZES)
        _at_least("sizes", min(self.sizes, default=1), 1)
        if self.clustering.balanced and self.name not in ("residual-k-means", "ua-sid"):
            raise ConfigurationError(
                f"tokenizer.clustering.balanced=true is for residual-k-means and ua-sid; {self.name} is never balanced."
            )
        if self.name == "ua-sid":
            if len(self.levels) < 2:
                raise ConfigurationError(
                    "tokenizer.sizes names one level, but ua-sid needs two: one from vectors, one hashed."
                )
            if not self.hash_keys:
                raise ConfigurationError("tokenizer.hash_keys is empty; name the fields that ua-sid hashes.")
            if self.policy == "reassign":
                raise ConfigurationError(
                    "tokenizer.conflicts.policy=reassign moves items by distance, which the hashed level of ua-sid has "
                    "not; use allow or digit."
                )
        for section in (self.content, self.contrastive, self.clustering, self.gradient, self.conflicts):
            section.check()

    @property
    def levels(self) -> tuple[int, ...]:
        """Codes per level, the default ones where none are set."""
        return tuple(self.sizes) or SIZES[self.name]

    @property
    def balanced(self) -> bool:
        """Whether k-means is balanced."""
        return self.name == "ua-sid" if self.clustering.balanced is None else self.clustering.balanced

    @property
    def policy(self) -> str:
        """The conflict policy."""
        return self.conflicts.policy or ("allow" if self.name == "ua-sid" else "digit")


def _one_of(key: str, value: str, known: Sequence[str] | dict[str, tuple[int, ...]]) -> None:
    if value not in known:
        raise ConfigurationError(f"tokenizer.{key} is {value!r}.{did_you_mean(value, known)}")


def _at_least(key: str, value: float, least: float) -> None:
    if not value >= least:
        raise ConfigurationError(f"tokenizer.{key} is {value}; it must be at least {least}.")


def _above_zero(key: str, value: float) -> None:
    if not value > 0:
        raise ConfigurationError(f"tokenizer.{key} is {value}; it must be above 0.")
