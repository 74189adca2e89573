"""The boundary in plain PyTorch, from the equations: what every kernel is held to. In any dtype, differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.connections.kernels.form import Form, Link, Operands
from harness.connections.sinkhorn import sinkhorn


def boundary(form: Form, state_SRW: Tensor, links: Sequence[Link], operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """(next (S, R, W), x (S, P · W), coefficients (S, R, C) or (R, C)), in the dtype of the state. `links` lead from it
    to the next, one after another."""
    for link in links:
        state_SRW = combine(form, state_SRW, link)
    coefficients = coefficients_of(form, state_SRW, operands)
    read = coefficients[..., : form.parts].expand(len(state_SRW), form.rows, form.parts)
    x_SPW = torch.einsum("srp,srw->spw", read, state_SRW)
    return state_SRW, x_SPW.flatten(-2), coefficients


def combine(form: Form, state_SRW: Tensor, link: Link) -> Tensor:
    """The state behind a sub-layer: carryᵀ h + what its output writes."""
    every = link.coefficients.expand(len(state_SRW), form.rows, form.columns)
    _, carry, write = every.split([form.parts, form.rows, form.written], dim=-1)
    out_SPW = link.out.unflatten(-1, (form.parts, form.width))
    written = write * out_SPW if form.diagonal else torch.einsum("srq,sqw->srw", write, out_SPW)
    return torch.einsum("sij,siw->sjw", carry, state_SRW) + written


def coefficients_of(form: Form, state_SRW: Tensor, operands: Operands) -> Tensor:
    """(S, R, C), or (R, C) where they are given."""
    if form.mixer == "given":
        return operands.fixed
    assert operands.weights is not None
    assert operands.scale is not None
    if form.mixer == "affine":
        assert operands.offset is not None
        raw = normed(form, state_SRW) @ operands.weights.T + operands.offset
        return operands.fixed + operands.scale * (torch.tanh(raw) if form.tanh else raw)
    flat = state_SRW.flatten(1)
    flat = flat / torch.sqrt(flat.square().mean(-1, keepdim=True) + form.eps)
    n = form.rows
    pre, post, *res = (operands.fixed + operands.scale * (flat @ operands.weights.T)).split(
        [n, n, *([n * n] if form.mixer == "sinkhorn" else [])], dim=-1
    )
    carry = torch.eye(n, dtype=flat.dtype, device=flat.device).expand(len(flat), n, n)
    if res:
        carry = sinkhorn(res[0].unflatten(-1, (n, n)), form.iterations).transpose(-1, -2)
    return torch.cat([torch.sigmoid(pre).unsqueeze(-1), carry, 2 * torch.sigmoid(post).unsqueeze(-1)], dim=-1)


def normed(form: Form, state_SRW: Tensor) -> Tensor:
    """Every row normed over its width, without weight and bias."""
    if form.norm == "none":
        return state_SRW
    if form.norm == "layer":
        state_SRW = state_SRW - state_SRW.mean(-1, keepdim=True)
    return state_SRW / torch.sqrt(state_SRW.square().mean(-1, keepdim=True) + form.eps)
