"""The cuts: where the wire leaves a block, and what travels. Pure torch.

Legend: B batch, M sequence, N hidden width, H feed-forward width, R rank, W width on the wire.
Stages of a block (stream h, input x, expanded p, inner g, output o, sum y): see block.py.

cut           leaves at  on the wire a         the cloud goes on with
none          h          h                     h
none-end      y          y                     y
sft           x          x u                   p = a Sigma v + b, residual 0
svd-residual  x          [x u, h]              p = a Sigma v + b, residual h
sft-output    g          g u                   o = a Sigma v + b, residual 0
stream        h          (h - mu) E            h' = a D + mu, for feed-forward and residual alike
stream-end    y          (y - mu) E            y' = a D + mu

"sft" is SFT (Shi et al. 2022, Eq. 3) as in the released code, w = u Sigma v the split weight;
"svd-residual" is the analysis of its Fig. 2. E and D come from the principal components V of a
calibration batch and their standard deviations s (`principal_basis`, `balanced_basis`). Sigma is a
full trainable (R, R) matrix, diagonal only at the start; u, v, E, D, mu train. Models that were
prepared with decoder layers pass h' or y' through those too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sft_common.model.block import BlockLayout, add_biases

STAGES = ("stream", "input", "inner", "sum")
"""Where a cut can leave a block, in the order of computation: h, x, g, y."""

LEAST_DEVIATION = 1e-4
"""Channels weaker than this share of the strongest are not amplified any further."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """One row of the table at the head of this file."""

    leaves_at: str
    """One of `STAGES`."""

    code: str
    """"raw" (the value itself), "factors" (u, Sigma, v of a weight) or "basis" (E, D, mu)."""

    sends_stream: bool = False
    """Whether h travels too, for the residual."""

    @property
    def narrow(self) -> bool:
        """Whether all that crosses is a code of R numbers: none of them can be spared."""
        return self.code != "raw" and not self.sends_stream

    def edge_modules(self, layout: BlockLayout) -> tuple[str, ...]:
        """Return the modules of a block whose parameters the edge owns."""
        stage = STAGES.index(self.leaves_at)
        mine = (path for needed, path in _needed_from(layout) if needed <= stage)
        return (*layout.attention, *mine)

    def factored(self, layout: BlockLayout) -> tuple[str, ...]:
        """Return the layers whose weights the cut replaces by factors."""
        if self.code != "factors":
            return ()
        return layout.projections if self.leaves_at == "input" else (layout.contraction,)

    def weight(self, layout: BlockLayout, weight_of: Callable[[str], Tensor]) -> Tensor:
        """Return the weight that is factored, (in, out); those of a gated layer in a row.

        Args:
            layout: of the block.
            weight_of: path of a layer in the block -> its weight, as it is stored.
        """
        weights = [layout.matrix(weight_of(path)) for path in self.factored(layout)]
        return torch.cat(weights, dim=1)

    def leave(self, block: nn.Module, layout: BlockLayout, stream: Tensor) -> Tensor:
        """Return the value of the stage that the cut codes, shape (B, M, N), for "inner" H."""
        if self.leaves_at == "stream":
            return stream
        x = layout.feed_in(block, stream)
        if self.leaves_at == "input":
            return x
        inner = layout.activate(block, layout.expand(block, x))
        if self.leaves_at == "inner":
            return inner
        return layout.add(block, layout.contract(block, inner), stream)

    def go_on(self, block: nn.Module, layout: BlockLayout, value: Tensor, kept: Tensor) -> Tensor:
        """Return the block's output (B, M, N) from the decoded value and the residual (0 or h)."""
        match self.leaves_at:
            case "stream":
                expanded = layout.expand(block, layout.feed_in(block, value))
                kept = value
            case "input":
                expanded = add_biases(block, layout.projections, value)
            case "inner":
                output = add_biases(block, (layout.contraction,), value)
                return layout.finish(block, layout.add(block, output, kept))
            case _:
                return layout.finish(block, value)
        output = layout.contract(block, layout.activate(block, expanded))
        return layout.finish(block, layout.add(block, output, kept))


def _needed_from(layout: BlockLayout) -> list[tuple[int, str]]:
    """Return (the first stage that cannot do without it, path) of every feed-forward module."""
    return [
        *((2, path) for path in layout.projections),
        (3, layout.contraction),
        (1 if layout.norm_first else len(STAGES), layout.norm),
    ]


CUT_TABLE = {
    "none": Cut(leaves_at="stream", code="raw"),
    "none-end": Cut(leaves_at="sum", code="raw"),
    "sft": Cut(leaves_at="input", code="factors"),
    "svd-residual": Cut(leaves_at="input", code="factors", sends_stream=True),
    "sft-output": Cut(leaves_at="inner", code="factors"),
    "stream": Cut(leaves_at="stream", code="basis"),
    "stream-end": Cut(leaves_at="sum", code="basis"),
}
"""Name of a cut -> what it does."""


class Factors(NamedTuple):
    """The factors of a split weight w ~ u Sigma v, w of shape (in, out)."""

    u: Tensor
    """(in, R)"""

    sigma: Tensor
    """(R, R)"""

    v: Tensor
    """(R, out)"""


def factor(weight: Tensor, rank: int) -> Factors:
    """Factor a split weight by truncated SVD (SFT, Eq. 3).

    The decomposition runs in float64 on the CPU and is cast back: signs and degenerate subspaces
    still depend on the library, so only one side may ever call this for a session.

    Args:
        weight: w, shape (in, out).
        rank: R, at most min(in, out).
    """
    u, s, v = torch.linalg.svd(weight.detach().cpu().double(), full_matrices=False)
    return Factors(
        *(
            part.to(weight.dtype).contiguous()
            for part in (u[:, :rank], torch.diag(s[:rank]), v[:rank])
        )
    )


class Basis(NamedTuple):
    """The strongest directions of a stream: code = (h - mean) encoder, of unit mean variance."""

    mean: Tensor
    """(N,)"""

    encoder: Tensor
    """E, (N, R)"""

    decoder: Tensor
    """D, (R, N)"""


def principal_basis(rows: Tensor, rank: int) -> Basis:
    """Return the whitened principal components of a calibration batch: E = V / s, D = s V^T.

    Args:
        rows: one value of the stream for each real token, shape (T, N), T at least 2.
        rank: R, at most N.
    """
    return basis_of_moments(*_moments(rows), rank, balanced=False)


def balanced_basis(rows: Tensor, rank: int) -> Basis:
    """Return the principal components for a code whose numbers all get the same error.

    With Q a random rotation and c = sqrt(mean s): E = V s^(-1/2) Q / c, D = c Q^T s^(1/2) V^T. Of
    all scalings the square root makes least of that error in h; the rotation has every number
    carry an equal share of all components, so that no large one takes the range from the others.

    Args:
        rows: as above.
        rank: as above.
    """
    return basis_of_moments(*_moments(rows), rank, balanced=True)


def basis_of_moments(mean: Tensor, covariance: Tensor, rank: int, *, balanced: bool) -> Basis:
    """Return the basis of a stream of which only mean and covariance are known.

    Args:
        mean: mu, (N,), float64.
        covariance: (N, N), float64.
        rank: R, at most N.
        balanced: whether as of `balanced_basis`, else of `principal_basis`.
    """
    axes, deviations = _components(covariance, rank)
    if not balanced:
        return _basis(mean, axes / deviations, (axes * deviations).T)
    generator = torch.Generator().manual_seed(rank)
    noise = torch.randn(rank, rank, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(noise)
    roots = (deviations * deviations.mean()).sqrt()
    return _basis(mean, axes / roots @ rotation, rotation.T @ (axes * roots).T)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N,) and covariance (N, N) of some rows (T, N), in float64."""
    x = rows.detach().cpu().double()
    mean = x.mean(dim=0)
    return mean, (x - mean).T @ (x - mean) / max(1, len(x) - 1)


def _components(covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the strongest principal components (N, R) and their deviations (R,), in float64."""
    variances, vectors = torch.linalg.eigh(covariance)
    strongest = variances.flip(0)[:rank].clamp(min=0)
    deviations = strongest.sqrt().clamp(min=float(strongest[0].sqrt()) * LEAST_DEVIATION)
    deviations = deviations.clamp(min=torch.finfo(torch.float32).tiny)  # a constant stream
    return vectors.flip(1)[:, :rank], deviations


def _basis(*parts: Tensor) -> Basis:
    return Basis(*(part.float().contiguous() for part in parts))


class EdgeFactor(nn.Module):
    """The edge's share u of a split weight: (B, M, in) -> activation (B, M, R)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(width, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, shape (B, M, R)."""
        return x @ self.u


class CloudFactors(nn.Module):
    """The cloud's share of a split weight: activation (B, M, R) -> (B, M, out), without bias."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.sigma = nn.Parameter(torch.empty(rank, rank))
        self.v = nn.Parameter(torch.empty(rank, width))

    def forward(self, activation_BMR: Tensor) -> Tensor:
        """Return activation Sigma v, shape (B, M, out)."""
        return activation_BMR @ self.sigma @ self.v


class Encoder(nn.Module):
    """The edge's share of a basis: (B, M, N) -> activation (B, M, R)."""

    def __init__(self, hidden: int, rank: int) -> None:
        super().__init__()
        self.encoder = nn.Parameter(torch.empty(hidden, rank))
        self.offset = nn.Parameter(torch.empty(rank))

    def forward(self, stream_BMN: Tensor) -> Tensor:
        """Return stream E + offset, shape (B, M, R); the offset starts as -mu E."""
        return stream_BMN @ self.encoder + self.offset


class Decoder(nn.Module):
    """The cloud's share of a basis: activation (B, M, R) -> stream (B, M, N).

    The linear decoder alone reaches only R directions of the stream. Layers behind it, each
    h' + contract(gelu(expand(norm(h')))), bend those into all N; they cost no traffic.

    Args:
        rank: R.
        hidden: N.
        feed_forward: H, the width inside each layer.
        layers: how many.
    """

    def __init__(self, rank: int, hidden: int, feed_forward: int, layers: int) -> None:
        super().__init__()
        self.decoder = nn.Parameter(torch.empty(rank, hidden))
        self.mean = nn.Parameter(torch.empty(hidden))
        self.layers = nn.ModuleList(DecoderLayer(hidden, feed_forward) for _ in range(layers))

    def forward(self, activation_BMR: Tensor) -> Tensor:
        """Return activation D + mu and what the layers make of it, shape (B, M, N)."""
        stream_BMN = activation_BMR @ self.decoder + self.mean
        for layer in self.layers:
            stream_BMN = stream_BMN + layer(stream_BMN)
        return stream_BMN


class DecoderLayer(nn.Module):
    """What one layer of a decoder adds: (B, M, N) -> (B, M, N)."""

    def __init__(self, hidden: int, feed_forward: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, feed_forward)
        self.contract = nn.Linear(feed_forward, hidden)

    def forward(self, stream_BMN: Tensor) -> Tensor:
        """Return contract(gelu(expand(norm(stream)))), shape (B, M, N)."""
        added: Tensor = self.contract(nn.functional.gelu(self.expand(self.norm(stream_BMN))))
        return added


def first_layers(decoder: Decoder, seed: int) -> dict[str, Tensor]:
    """Return what the layers of a decoder start from, by name: together they add nothing yet.

    Args:
        decoder: on any device, such as meta.
        seed: of the expansions.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, Tensor] = {}
    for at, layer in enumerate(decoder.layers):
        for name, parameter in layer.named_parameters():
            value = torch.zeros(parameter.shape)
            match name:
                case "norm.weight":
                    value.fill_(1)
                case "expand.weight":
                    bound = parameter.shape[1] ** -0.5
                    value.uniform_(-bound, bound, generator=generator)
            numbers[f"layers.{at}.{name}"] = value
    return numbers
