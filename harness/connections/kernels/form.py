"""What a boundary between two sub-layers is, and what it is given: the words that all its implementations share.

Axes: S tokens (B · T), R rows of a state (streams, fractions, slots), P parts of a sub-layer's input and output, W
width of a row (D = P · W), C columns of coefficients [read P | carry R | write Q], K raw numbers that they are made of.

Behind sub-layer k, with its input state h (S, R, W), its output `out` (S, P · W) and its coefficients (S, R, C), stands

    next[j] = sum_i carry[i, j] h[i] + written[j]     written[j] = sum_q write[j, q] out_q, or write[j] out_j (diagonal)

and sub-layer k+1 makes its own coefficients of `next` and reads x_p = sum_i read[i, p] next[i]. All of it is one pass
over the state. At the entry there is no sub-layer behind (`next` is h), at the exit none before (`given` coefficients).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from torch import Tensor

Mixer = Literal["given", "affine", "sinkhorn", "identity"]
"""Where coefficients come from. `given`: learned or constant, the same for all tokens. `affine`: HC, FC and GHC,
fixed + scale · tanh(norm(row) · weights). `sinkhorn` and `identity`: mHC and Identity-HC, from all rows at once."""

MOST_ROWS = 16
"""Of what the kernels take; larger states go the plain way."""


@dataclass(frozen=True)
class Form:
    """Everything about a boundary that is known before a tensor is. Kernels are compiled for one form."""

    rows: int
    parts: int
    width: int
    mixer: Mixer
    diagonal: bool = False
    """FC: row j is written by part j of the output alone, with one weight."""
    norm: Literal["layer", "rms", "none"] = "none"
    """Of every row, before an affine projection; weight and bias are folded into the operands."""
    eps: float = 1e-5
    """In that norm, or in the one of the whole state."""
    tanh: bool = True
    iterations: int = 0
    """Of Sinkhorn's."""

    @property
    def key(self) -> str:
        """A word that tells it from all others."""
        return " ".join(str(getattr(self, field.name)) for field in fields(self))

    @property
    def written(self) -> int:
        """Q: columns of the coefficients that weigh the output."""
        return 1 if self.diagonal else self.parts

    @property
    def columns(self) -> int:
        """C."""
        return self.parts + self.rows + self.written

    @property
    def raw(self) -> int:
        """K: raw numbers of a row (affine) or of a token; none where coefficients are given."""
        n = self.rows
        return {"given": 0, "affine": self.columns, "sinkhorn": n * n + 2 * n, "identity": 2 * n}[self.mixer]

    @property
    def joint(self) -> bool:
        """Whether all rows together are normed (without a mean) and projected: mHC and Identity-HC."""
        return self.mixer in ("sinkhorn", "identity")


class Operands(NamedTuple):
    """What a sub-layer's coefficients are made of, in fp32.

    given: `fixed` (R, C), the coefficients themselves.
    affine: raw = norm(next[i]) · weights (C, W) for every row; coefficients = fixed (R, C) + scale (R, C) ∘
    tanh(raw + offset (C,)). `weights` holds the norm's weight, `offset` its bias times the projection.
    sinkhorn, identity: raw = x̂ · weights (K, R · W) with x̂ the RMS-normed state, row after row; fixed (K,) + scale
    (K,) ∘ raw is split into [pre | post | res]: read = σ(pre), write = 2σ(post), carry = Sinkhorn(res)ᵀ or I.
    """

    fixed: Tensor
    weights: Tensor | None = None
    offset: Tensor | None = None
    scale: Tensor | None = None


class Link(NamedTuple):
    """One step from a state to the next: a sub-layer's output (S, P · W) and coefficients, (S, R, C) or (R, C)."""

    out: Tensor
    coefficients: Tensor


class Made(NamedTuple):
    """What a boundary makes."""

    next: Tensor | None
    """(S, R, W), where it is to be kept; at the entry it is there already."""
    x: Tensor | None
    """(S, P · W): the next sub-layer's input. (A backward pass has no use for it.)"""
    coefficients: Tensor | None
    """(S, R, C) in fp32; None where they are given."""
    raw: Tensor | None
    """(S, R, C) or (S, K) in fp32, before offset, fixed and scale: for the backward pass."""
    stats: Tensor | None
    """(S, R, 2) mean and 1/deviation of every row, or (S, 1) 1/RMS of the state, in fp32: likewise."""


class Grads(NamedTuple):
    """Gradients of what a boundary was given; of coefficients in the shape that these had."""

    state: Tensor
    """(S, R, W), of the state before the last link (or, at the entry, of the state)."""
    out: Tensor | None
    coefficients: Tensor | None
    fixed: Tensor
    weights: Tensor | None
    offset: Tensor | None
    scale: Tensor | None
