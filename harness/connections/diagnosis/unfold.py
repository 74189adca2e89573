"""The dense connection matrix that a stack amounts to (HC, arXiv 2409.19606, Eq. 20 and 27-29).

    h_k = sum_j c_kj T_j,        j = 0 .. k,   k = 0 .. K

T_0 is the embedding and T_j the output of sub-layer j - 1; h_k is what sub-layer k reads, and h_K what the stack gives
to the final norm. C is (K+1, K+1), 0 above its diagonal. HC's c_kj = B^j (prod A_r^t) A_m^k is what `unfold` computes,
for all j at once and token by token.

Axes: N tokens (1 where all have the same), R rows, P parts of a sub-layer's input, J columns, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.base import Connections, Matrices, SublayerConnections, fixed_coefficients
from harness.connections.diagnosis.tape import Tape, Watched, reads_of

PROBE_SEED = 2409


@dataclass(frozen=True)
class Unfolded:
    """C, float64, and where there are rows the C(i) of HC's hyper-hidden i."""

    matrix: Tensor
    """(N, K+1, K+1)"""
    hidden: Tensor | None = None
    """(R, K+1, K+1), mean over tokens: of what row i is after sub-layer k's mixing and before its output is added, and
    at the end. Of rows that hold one part of the width, the dependence is that on the same part."""
    held: bool = False
    """Whether the type marked strengths that a state decides."""


def ends(stack: SublayerConnections, like_BTD: Tensor) -> tuple[Tensor, Tensor]:
    """(R, P) and (P, R), float64: how the embedding's parts make the rows, and the rows the parts of the output. Read
    off the stack's own `expand` and `collapse`, which treat every place within a part alike."""
    D = like_BTD.shape[-1]
    R, W = stack.expand(like_BTD[:1, :1]).shape[-2:]
    P = D // W
    parts_P1D = torch.eye(P, dtype=like_BTD.dtype, device=like_BTD.device).repeat_interleave(W, dim=1)[:, None]
    rows_R1RW = torch.eye(R, dtype=like_BTD.dtype, device=like_BTD.device)[:, None, :, None].repeat(1, 1, 1, W)
    enter_PR = stack.expand(parts_P1D)[:, 0].double().mean(dim=-1)
    leave_RP = stack.collapse(rows_R1RW)[:, 0].double().unflatten(-1, (P, W)).mean(dim=-1)
    return enter_PR.T, leave_RP.T


def flat(matrices: Matrices) -> Matrices:
    """The same in float64, with one axis N for the tokens."""
    return Matrices(*(m.double().flatten(0, 1) for m in matrices))


def propagate(sublayers: Sequence[Matrices], enter_RP: Tensor, leave_PR: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For k = 0 .. K, with J = k + 1: (N, P, J, P), how what is read depends on the embedding and all outputs so far,
    part by part, and (N, R, J, P), how every row does after sub-layer k's mixing and before its output is added (at the
    end: as it is). What the sub-layers do to the rows is `flat`."""
    N, (R, P) = max(len(m) for one in sublayers for m in one), enter_RP.shape
    rows_NRJP = enter_RP.expand(N, R, P).unsqueeze(2)
    for read_NRP, carry_NRR, write_NPR in sublayers:
        block_NPJP, moved_NRJP = (
            (map_NXR @ rows_NRJP.flatten(2)).unflatten(2, rows_NRJP.shape[2:])
            for map_NXR in (read_NRP.mT, carry_NRR.mT)
        )
        yield block_NPJP, moved_NRJP
        rows_NRJP = torch.cat([moved_NRJP, write_NPR.mT.expand(N, R, P).unsqueeze(2)], dim=2)
    yield (leave_PR @ rows_NRJP.flatten(2)).unflatten(2, rows_NRJP.shape[2:]), rows_NRJP


def unfold(sublayers: Sequence[Matrices], enter_RP: Tensor, leave_PR: Tensor) -> Unfolded:
    """C of a stack of rows from what every sub-layer does to them (`flat`). Where a sub-layer's input has P parts, its
    dependence on an output is a (P, P) block, and c_kj the mean of its diagonal: the block's share of the identity."""
    K = len(sublayers)
    same_RP = enter_RP / enter_RP.square().sum(dim=1, keepdim=True)
    lines: list[Tensor] = []
    hidden: list[Tensor] = []
    for k, (block_NPJP, rows_NRJP) in enumerate(propagate(sublayers, enter_RP, leave_PR)):
        lines.append(F.pad(block_NPJP.diagonal(dim1=1, dim2=3).mean(dim=-1), (0, K - k)))
        hidden.append(F.pad(torch.einsum("nrjp,rp->rj", rows_NRJP, same_RP) / len(rows_NRJP), (0, K - k)))
    return Unfolded(torch.stack(lines, dim=1), torch.stack(hidden, dim=1))


def unfold_from_outside(stack: Connections, tape: Tape) -> Unfolded:
    """C of any stack, by differentiating its replayed wiring: c_kj = tr(dh_k / dT_j) / D of every token.

    One vector of random signs z for a token, zᵀ (dh_k / dT_j) z / D: exact where the derivative is diagonal (scalars,
    weights of an RMSNorm), else Hutchinson's estimate, whose error the mean over tokens makes small. What a state
    decides is held constant, as the papers do when they write such matrices: strengths that the type has marked
    (`held`), and the scale of every RMSNorm and LayerNorm on the way (post-norm: HC, Eq. 16).
    """
    x_BTD = tape.x.detach().requires_grad_()
    outputs = [out_BTD.detach().requires_grad_() for out_BTD in tape.outputs]
    branches = [Watched(branch, out_BTD) for branch, out_BTD in zip(tape.branches, outputs, strict=True)]
    norms = [*stack.modules(), *(getattr(branch, "norm", None) for branch in tape.branches)]
    with torch.enable_grad(), fixed_coefficients() as held, _constant_scales(norms):
        last_BTD = stack(x_BTD, branches)
        signs = torch.randint(0, 2, x_BTD.shape, generator=torch.Generator().manual_seed(PROBE_SEED))
        signs_BTD = (2 * signs - 1).to(x_BTD)
        lines: list[Tensor] = []
        for k, h_BTD in enumerate([*reads_of(branches), last_BTD]):
            sources = [x_BTD, *outputs[:k]]
            found = torch.autograd.grad(h_BTD, sources, signs_BTD, retain_graph=True, materialize_grads=True)
            line_NJ = torch.stack([(grad * signs_BTD).mean(dim=-1).flatten() for grad in found], dim=1)
            lines.append(F.pad(line_NJ.double(), (0, len(outputs) - k)))
    return Unfolded(torch.stack(lines, dim=1).detach(), held=bool(held))


@contextmanager
def _constant_scales(modules: Sequence[object]) -> Iterator[None]:
    """RMSNorm and LayerNorm over the last axis answer as ever, with their statistic for a constant."""

    def answer(norm: Any, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        x = inputs[0] - inputs[0].mean(dim=-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else inputs[0]
        eps = torch.finfo(x.dtype).eps if norm.eps is None else norm.eps
        y = x * torch.rsqrt(x.detach().square().mean(dim=-1, keepdim=True) + eps)
        y = y if norm.weight is None else y * norm.weight
        return y if getattr(norm, "bias", None) is None else y + norm.bias

    found = {m for m in modules if isinstance(m, (nn.RMSNorm, nn.LayerNorm)) and len(m.normalized_shape) == 1}
    handles = [norm.register_forward_hook(answer) for norm in found]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
