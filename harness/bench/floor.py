"""The least that a connection can cost: what a fused form must move to and from memory, at the bandwidth of a copy.

All that stands between two sub-layers, the depth connection of one and the width connection of the next, can be done in
one pass over the state, with coefficients in registers. Of a state of S numbers a token (n D of n streams, D of
fractions, n D / m of n slots) that pass moves, in numbers a token, with caches cold:

    forward     reads the state S and the sub-layer's output D,
                writes the new state S and the next input D                                     2 S + 2 D
    backward    reads the gradients of the new state S and of the next input D, and again the
                state S and the output D, of which the new state is computed anew,
                writes the gradients of the state S and of the output D                         3 S + 3 D

With n streams that is (2n + 2) D and (3n + 3) D, with fractions 4 D and 6 D. A residual's own sum reads two and writes
one, and so does its backward pass (the stream's gradient and the norm's, summed): 3 D and 3 D. Coefficients, weights
and statistics do not grow with the width and are left out. A network has one such pass more than it has sub-layers, of
which the first and the last are each about half of one.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import ConnectionSettings

ROWS = ("streams", "fractions", "slots", "constrained")
"""Families whose state is rows that are read and written by a few numbers a token."""
PASSES = 3
"""FLOPs of a training step over those of its forward pass, as everywhere (docs/costs.md)."""


@dataclass(frozen=True)
class Traffic:
    """Numbers that are moved for a token at a connection."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward


def compulsory(settings: ConnectionSettings, dim: int) -> Traffic | None:
    """What a fused form of the connection moves; None for a type that has none of this kind."""
    if settings.type == "residual":
        return Traffic(3 * dim, 3 * dim)
    claims = settings.claims()
    if claims.family not in ROWS:
        return None
    state = claims.rows * dim // claims.parts
    return Traffic(2 * state + 2 * dim, 3 * state + 3 * dim)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a floor is computed for."""

    dim: int
    sublayers: int
    tokens: int
    """Of a step."""
    word: int
    """Bytes of a number of the stream: 4 in fp32, 2 in bf16."""
    bandwidth: float
    """Bytes a second, read and written together."""
    baseline_seconds: float
    """Of a step of the residual network."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a connection is from the least it can cost. All of it is beyond the residual."""

    bytes: int
    """That one connection has to move in a step, forward and backward."""
    flops: int
    """Of one connection in a step."""
    floor_ratio: float
    """Time of a step over the residual's if nothing but these bytes were to be paid."""
    seconds: float
    """That one connection takes in a step; below 0 where the arm was faster than the residual."""
    bandwidth: float | None
    """At which the bytes were moved: `bytes` / `seconds`."""


def distance(settings: ConnectionSettings, residual: ConnectionSettings, time_ratio: float, at: Conditions) -> Distance:
    """Of an arm that was measured to take `time_ratio` times the residual's step. Raises ValueError for a type without
    a fused form (`compulsory`)."""
    own, base = compulsory(settings, at.dim), compulsory(residual, at.dim)
    if own is None or base is None:
        raise ValueError(f"{settings.tag()}: no fused form is known")
    moved = (own.total - base.total) * at.tokens * at.word
    flops = settings.flops_per_token(at.dim, at.sublayers) - residual.flops_per_token(at.dim, at.sublayers)
    seconds = (time_ratio - 1) * at.baseline_seconds / at.sublayers
    return Distance(
        bytes=moved,
        flops=PASSES * flops * at.tokens // at.sublayers,
        floor_ratio=1 + moved * at.sublayers / at.bandwidth / at.baseline_seconds,
        seconds=seconds,
        bandwidth=moved / seconds if seconds > 0 else None,
    )
