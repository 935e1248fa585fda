"""What both sides agree on before a session opens: frozen, checked. No tensors, no RPC."""

from __future__ import annotations

from dataclasses import dataclass

from sft_common.errors import ConfigError
from sft_common.own_optimizer import OwnOptimizer

CUTS = ("sft", "sft-output", "svd-residual", "stream", "stream-end", "none")
"""Names of the cuts; docs/numerics.md has the formula of each."""

TAIL_CUTS = (*CUTS, "none-end")
"""Names of the cuts between a frozen body and a tail, the second of a model in three parts."""

RAW_CUTS = ("none", "none-end")
"""Cuts that code nothing: N numbers travel of a token, and there is no rank."""

BASIS_CUTS = ("stream", "stream-end")
"""Cuts whose basis the edge finds in a few batches of its data, before it opens a session."""

FACTOR_CUTS = ("sft", "sft-output", "svd-residual")
"""Cuts whose factors the cloud computes from the weights alone."""

HEADS = (
    "sequence-classification",
    "regression",
    "token-classification",
    "question-answering",
    "causal-lm",
    "image-classification",
)
"""Kinds of heads that net2 can end in; sft_common/model/heads.py says what each computes."""

ENCODINGS = ("float32", "float16", "bfloat16", "int8", "int4")
"""How a number travels; docs/numerics.md has the error of each."""

SCALED_ENCODINGS = frozenset({"int8", "int4"})
"""Encodings whose error is the same for all numbers of a token, be they small or large."""

DECODER_LAYERS = 3
"""What `sft-cloud prepare` gives a cut that has a basis, unless told otherwise."""

MAX_DECODER_LAYERS = 16
"""More than a decoder needs; a peer must not make the cloud build them without end."""

MAX_LABELS = 65_536
"""More classes than tasks have; a peer must not make the cloud allocate a head of terabytes."""

MAX_PROMPTS = 1024
"""More prompts than help; a peer must not make sequences that no memory was meant for."""

MAX_NAME = 1024
"""Characters of a model's name: longer ones are no path and no hub id."""


LARGEST = 1e6
"""Of a learning rate, a weight decay and eps: their products must be float32 numbers."""

TINIEST = 1e-30
"""Of eps, which as a smaller float32 would count as 0 on some device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """The sizes of a model that a cut must fit."""

    blocks: int
    """L, the number of transformer blocks."""

    hidden: int
    """N, the width of the stream between blocks."""

    feed_forward: int
    """H, the width inside the feed-forward layer."""

    positions: int
    """Longest sequence in tokens that the model takes."""

    heads: int
    """Attention heads of a block."""

    score_rows: int = 3
    """Rows of attention scores that a training step keeps for each token and head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSpec:
    """Where and how a model is cut (SFT, section III)."""

    cut: str = "sft"
    """Name of the cut, one of `CUTS`."""

    split_layer: int
    """The block that is cut, 1 to L; block 1 is the lowest."""

    rank: int = 8
    """R, the numbers that the cut keeps of a token, 1 to min(N, H); `RAW_CUTS` ignore it."""

    decoder_layers: int = 0
    """Feed-forward layers behind the cloud's decoder, only of cuts that have a basis."""

    def check(self, shape: ModelShape, cuts: tuple[str, ...] = CUTS) -> None:
        """Refuse a cut that does not fit the model.

        Args:
            shape: sizes of the model.
            cuts: names of those that may stand in this place.

        Raises:
            ConfigError: unknown cut, or split layer, rank or decoder layers out of range.
        """
        if self.cut not in cuts:
            raise ConfigError(f"unknown cut {self.cut!r}; choose one of: {', '.join(cuts)}")
        if not 1 <= self.split_layer <= shape.blocks:
            raise ConfigError(
                f"split layer {self.split_layer} is outside 1..{shape.blocks}: "
                f"the model has {shape.blocks} blocks; choose a --split-layer in that range"
            )
        limit = min(shape.hidden, shape.feed_forward)
        if self.cut not in RAW_CUTS and not 1 <= self.rank <= limit:
            raise ConfigError(
                f"rank {self.rank} is outside 1..{limit}: the model is {shape.hidden} wide, its "
                f"feed-forward layer {shape.feed_forward}; choose a --rank in that range"
            )
        most = MAX_DECODER_LAYERS if self.cut in BASIS_CUTS else 0
        if not 0 <= self.decoder_layers <= most:
            raise ConfigError(
                f"{self.decoder_layers} decoder layers are outside 0..{most} of the cut {self.cut}"
            )

    def words(self, blocks: int | None = None) -> str:
        """Return the cut as people read it; `blocks` is L, if they are to see that too."""
        of = "" if blocks is None else f" of {blocks}"
        rank = "" if self.cut in RAW_CUTS else f" at rank {self.rank}"
        deep = f" with {self.decoder_layers} decoder layers" if self.decoder_layers else ""
        return f"cut {self.cut} in block {self.split_layer}{of}{rank}{deep}"

    def coded_width(self, shape: ModelShape) -> int:
        """Return the width of what the cut codes: H inside the feed-forward layer, else N."""
        return shape.feed_forward if self.cut == "sft-output" else shape.hidden

    def wire_width(self, shape: ModelShape) -> int:
        """Return W, the numbers sent for each token.

        N with the cuts "none" and "none-end", R + N with "svd-residual", R with all others.
        """
        match self.cut:
            case "none" | "none-end":
                return shape.hidden
            case "svd-residual":
                return self.rank + shape.hidden
            case _:
                return self.rank


@dataclass(frozen=True, kw_only=True, slots=True)
class TailSpec:
    """Where a frozen body ends, and how its rows travel down to the tail that goes on with them."""

    split: SplitSpec
    """The second cut, one of `TAIL_CUTS`, in a block above the first's."""

    encoding: str = "float32"
    """How the rows travel down, one of `ENCODINGS`."""

    gradient_encoding: str = "float32"
    """How their gradients travel up, one of `ENCODINGS`."""

    first_row: bool = False
    """Whether of each example the first token's row travels alone: the tail reads no other."""

    def __post_init__(self) -> None:
        check_encodings(self.encoding, self.gradient_encoding)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartsSpec:
    """A model in three parts, head, body and tail (SFPrompt): both cuts and the soft prompts."""

    first: SplitSpec
    """The cut between head and body."""

    second: SplitSpec
    """The cut between body and tail, one of `TAIL_CUTS`, in a block above the first's."""

    prompts: int = 0
    """k, the soft prompts behind the first token, 0 to `MAX_PROMPTS`."""

    first_row: bool = False
    """As of `TailSpec`."""

    def check(self, shape: ModelShape) -> None:
        """Refuse cuts that do not fit the model or each other.

        Raises:
            ConfigError: says what is out of range.
        """
        self.first.check(shape)
        self.second.check(shape, TAIL_CUTS)
        if self.second.split_layer <= self.first.split_layer:
            raise ConfigError(
                f"the tail is cut off in block {self.second.split_layer}, the head in block "
                f"{self.first.split_layer}; the tail's block must be above the head's"
            )
        if deep := self.first.decoder_layers or self.second.decoder_layers:
            raise ConfigError(
                f"{deep} decoder layers; the cuts of a model in three parts have none"
            )
        if self.first_row and self.second.split_layer != shape.blocks:
            raise ConfigError(
                f"first_row with a tail cut off in block {self.second.split_layer}: the blocks "
                f"above it read every row; cut in block {shape.blocks}, or send all rows"
            )
        _check_prompts(self.prompts)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSpec:
    """AdamW as in the released code of SFT; the learning rate travels with every step."""

    beta1: float = 0.9
    """Decay of the first moment, in [0, 1)."""

    beta2: float = 0.999
    """Decay of the second moment, in [0, 1)."""

    eps: float = 1e-8
    """Added to the root of the second moment, `TINIEST` to `LARGEST`."""

    weight_decay: float = 0.01
    """Decoupled decay of matrices, 0 to `LARGEST`; biases and norms do not decay."""

    def __post_init__(self) -> None:
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= value < 1:
                raise ConfigError(f"optimizer {name} is {value}; it must lie in [0, 1)")
        if not TINIEST <= self.eps <= LARGEST:
            raise ConfigError(
                f"optimizer eps is {self.eps}; it must lie in {TINIEST:g}..{LARGEST:g}"
            )
        if not 0 <= self.weight_decay <= LARGEST:
            raise ConfigError(
                f"optimizer weight decay is {self.weight_decay}; it must lie in 0..{LARGEST:g}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """Which pre-trained model is meant, and how to see that both sides hold the same."""

    name: str
    """Hub id, name of a folder the cloud was given, or a path on the cloud's machine."""

    revision: str = ""
    """Commit of the hub repository; empty for a folder."""

    config_digest: str = ""
    """SHA-256 over the shape-giving configuration, hexadecimal."""

    weights_digest: str = ""
    """SHA-256 over the beginnings of a few tensors of the checkpoint, hexadecimal."""

    def __post_init__(self) -> None:
        for text in (self.name, self.revision, self.config_digest, self.weights_digest):
            if len(text) > MAX_NAME:
                raise ConfigError(
                    f"a model's name or digest has {len(text)} characters, at most {MAX_NAME} fit"
                )
            if not text.isprintable():  # it stands in logs, and names a place on a disk
                raise ConfigError(f"a model's name or digest has control characters: {text!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSpec:
    """Everything the cloud must know to build and train net2."""

    model: ModelIdentity
    """The pre-trained model."""

    split: SplitSpec
    """The cut."""

    optimizer: OptimizerSpec = OptimizerSpec()
    """How net2 is trained."""

    own_optimizer: OwnOptimizer | None = None
    """How it is trained instead, as a training script says."""

    head: str = "sequence-classification"
    """What net2 ends in, one of `HEADS`."""

    num_labels: int
    """C, the classes of the head, 2 to `MAX_LABELS`; 1 for a regression. The heads
    "question-answering" (2) and "causal-lm" (the vocabulary) bring their own."""

    seed: int = 0
    """Seed of everything random, 0 to 2**63 - 1."""

    dropout: float | None = None
    """Probability for every dropout layer, in [0, 1); None: the model's own."""

    encoding: str = "float32"
    """How activations travel, one of `ENCODINGS`."""

    gradient_encoding: str = "float32"
    """How their gradients travel back, one of `ENCODINGS`."""

    max_examples: int = 0
    """Most examples of a batch, for an estimate of memory; 0: not said."""

    max_tokens: int = 0
    """Most tokens of an example, for the same, its prompts among them; 0: not said."""

    tail: TailSpec | None = None
    """Where a frozen body ends; the session then trains nothing. None: it has all of net2."""

    prompts: int = 0
    """k, the soft prompts by which examples may be longer than the model takes, with a tail."""

    federation: str = ""
    """Of which federation the session is a client's part; empty: of none."""

    def __post_init__(self) -> None:
        check_encodings(self.encoding, self.gradient_encoding)
        _check_prompts(self.prompts)
        if self.tail is None and self.prompts:
            raise ConfigError(f"{self.prompts} prompts without a tail; only frozen bodies take any")
        if self.tail is not None and self.own_optimizer is not None:
            raise ConfigError("a session with a tail trains nothing, and takes no own optimizer")
        if self.head not in HEADS:
            raise ConfigError(f"unknown head {self.head!r}; choose one of: {', '.join(HEADS)}")
        if self.head == "regression":
            if self.num_labels != 1:
                raise ConfigError(f"{self.num_labels} labels: a regression has 1")
        elif self.head != "causal-lm" and not 2 <= self.num_labels <= MAX_LABELS:
            raise ConfigError(f"{self.num_labels} labels: a head takes 2 to {MAX_LABELS}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed {self.seed} is outside 0..{2**63 - 1}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout} is outside [0, 1)")

    @property
    def parts(self) -> PartsSpec:
        """The three parts of the model, where there is a tail."""
        assert self.tail is not None
        return PartsSpec(
            first=self.split,
            second=self.tail.split,
            prompts=self.prompts,
            first_row=self.tail.first_row,
        )

    @property
    def scaled(self) -> bool:
        """Whether numbers of a token travel with the same error, be they small or large."""
        return any_scaled(self.encoding, self.gradient_encoding)


def any_scaled(*encodings: str) -> bool:
    """Return whether numbers of a token travel with the same error, be they small or large."""
    return not SCALED_ENCODINGS.isdisjoint(encodings)


def check_encodings(*encodings: str) -> None:
    """Raise unless all are known.

    Raises:
        ConfigError: one is not.
    """
    for encoding in encodings:
        if encoding not in ENCODINGS:
            raise ConfigError(
                f"unknown encoding {encoding!r}; choose one of: {', '.join(ENCODINGS)}"
            )


def _check_prompts(prompts: int) -> None:
    if not 0 <= prompts <= MAX_PROMPTS:
        raise ConfigError(f"{prompts} prompts are outside 0..{MAX_PROMPTS}")
