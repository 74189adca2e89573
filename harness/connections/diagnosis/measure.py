"""All diagnostics of a stack from one recorded pass.

Axes: B batch, T time, R rows, P parts, W width of a row, K sub-layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from harness.connections.base import Connections, Matrices, SublayerConnection, SublayerConnections
from harness.connections.diagnosis import rows
from harness.connections.diagnosis.tape import Tape, at_least_fp32
from harness.connections.diagnosis.unfold import ends, flat, unfold, unfold_from_outside


@dataclass(frozen=True, kw_only=True)
class Measured:
    """By depth; None where a type has no such thing. What each number is: docs/connection-diagnostics.md."""

    cosine: dict[str, list[float]]
    """`median`, `low`, `high`, K-1 each."""
    row_rms: list[list[float]]
    """(K+1, R): rows before every sub-layer, and at the end. Where a type shows none, R is 1: what sub-layers read."""
    dispersion: list[float] | None = None
    """(K+1,)"""
    dynamic_share: list[float] | None = None
    """(K,)"""
    gain: dict[str, list[float]] | None = None
    """`forward_max`, `forward_min`, `backward_max`, `backward_min`, K each."""
    matrix: Tensor
    """(K+1, K+1), float64: C, mean over tokens."""
    hidden: Tensor | None = None
    """(R, K+1, K+1): C(1) .. C(R)."""


@torch.no_grad()
def measure(stack: Connections, tape: Tape) -> Measured:
    """Raises whatever a type raises that cannot be replayed. Parameters and their gradients stay as they are."""
    tape = at_least_fp32(tape)
    found = rows.neighbour_cosines(tape.reads)
    cosine = dict(zip(("median", "low", "high"), found.tolist(), strict=True))
    with torch.autocast(tape.x.device.type, enabled=False):
        shown = _from_inside(stack, tape, cosine) if isinstance(stack, SublayerConnections) else None
        return shown or _from_outside(stack, tape, cosine)


def _from_outside(stack: Connections, tape: Tape, cosine: dict[str, list[float]]) -> Measured:
    found = unfold_from_outside(stack, tape)
    # Of types whose strengths weigh the history (attention residuals, MUDD): by row of C.
    shares = [rows.dynamic_share([found.matrix[:, k]]) for k in range(len(tape.reads))]
    return Measured(
        cosine=cosine,
        row_rms=[rows.root_mean_square(h.unsqueeze(-2)).tolist() for h in (*tape.reads, tape.out)],
        dynamic_share=shares if found.held else None,
        matrix=found.matrix.mean(dim=0).cpu(),
    )


def _from_inside(stack: SublayerConnections, tape: Tape, cosine: dict[str, list[float]]) -> Measured | None:
    """The stack's state again, sub-layer by sub-layer, from the recorded outputs. None where a type does not show what
    it does with the state."""
    h = stack.expand(tape.x)
    modules = [cast(SublayerConnection, module) for module in stack.sublayers]
    if modules[0].matrices(h) is None:
        return None
    enter_RP, leave_PR = ends(stack, tape.x)
    groups = rows.copies(enter_RP)
    sublayers: list[Matrices] = []
    sizes, apart = [rows.root_mean_square(h).tolist()], [rows.dispersion(h, groups)]
    for module, out_BTD in zip(modules, tape.outputs, strict=True):
        sublayers.append(flat(cast(Matrices, module.matrices(h))))
        h = module.connect(h, lambda _, out_BTD=out_BTD: out_BTD)
        sizes.append(rows.root_mean_square(h).tolist())
        apart.append(rows.dispersion(h, groups))
    found = unfold(sublayers, enter_RP, leave_PR)
    return Measured(
        cosine=cosine,
        row_rms=sizes,
        dispersion=apart if groups else None,
        dynamic_share=[rows.dynamic_share(one) for one in sublayers],
        gain=rows.gain(sublayers),
        matrix=found.matrix.mean(dim=0).cpu(),
        hidden=None if found.hidden is None else found.hidden.cpu(),
    )
