"""The boundary between two sub-layers as one differentiable operation, and a state that is not always there.

Between two boundaries a state is what its makers say: a tensor that was kept, and the links that lead from it to the
state itself. Whoever needs it walks them, in the forward and in the backward pass; one of `STATES_PER_KEPT` is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.connections.kernels import operators
from harness.connections.kernels.form import Link, Made, Operands
from harness.connections.settings.base import STATES_PER_KEPT


@dataclass(frozen=True)
class State:
    """The state before a boundary."""

    tensor: Tensor
    """(S, R, W): the state itself without `links`, or the one that they start from, without gradient."""
    links: tuple[Link, ...]
    """Their tensors have no gradient either."""
    handle: Tensor
    """(S, R, W): takes the gradient of the state. It is the state itself, or has only its shape."""


def entry(key: str, state_SRW: Tensor, operands: Operands) -> tuple[State, Tensor, Tensor]:
    """(state, x (S, P · W), coefficients) of the first sub-layer. `key` names the form and the kernels."""
    x_SD, coefficients = cast(Any, _Entry).apply(key, state_SRW, *operands)
    return State(state_SRW.detach(), (), state_SRW), x_SD, _or_given(coefficients, operands)


def boundary(
    key: str, state: State, link: Link, operands: Operands, *, last: bool = False
) -> tuple[State, Tensor, Tensor]:
    """(state, x (S, P · W), coefficients) behind the sub-layer that `link` is made of. The state is that of the next
    boundary; behind the `last` there is none, and `state` as it was is given back."""
    link = Link(link.out.contiguous(), link.coefficients.contiguous())
    links = (*state.links, Link(link.out.detach(), link.coefficients.detach()))
    keep = len(links) == STATES_PER_KEPT and not last
    flat = [tensor for one in state.links for tensor in one]
    handle, x_SD, coefficients = cast(Any, _Boundary).apply(
        key, keep, last, state.handle, state.tensor, *link, *operands, *flat
    )
    if last:
        return state, x_SD, _or_given(coefficients, operands)
    following = State(handle.detach(), (), handle) if keep else State(state.tensor, links, handle)
    return following, x_SD, _or_given(coefficients, operands)


def _or_given(coefficients: Tensor | None, operands: Operands) -> Tensor:
    return operands.fixed if coefficients is None else coefficients


class _Entry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, key: str, state: Tensor, *operands: Any) -> Any:
        made = operators.forward(key, False, state, (), Operands(*operands))
        ctx.key = key
        ctx.save_for_backward(state, *operands, made.coefficients, made.raw, made.stats)
        ctx.set_materialize_grads(False)
        return made.x, made.coefficients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_x: Tensor | None, g_coefficients: Tensor | None) -> Any:
        state, fixed, weights, offset, scale, *kept = ctx.saved_tensors
        operands, made = Operands(fixed, weights, offset, scale), Made(None, None, *kept)
        grads = operators.backward(ctx.key, state, (), operands, made, None, g_x, g_coefficients)
        return None, grads.state, grads.fixed, grads.weights, grads.offset, grads.scale


class _Boundary(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        key: str,
        keep: bool,
        last: bool,
        handle: Tensor,
        state: Tensor,
        out: Tensor,
        coefficients: Tensor,
        *rest: Any,
    ) -> Any:
        operands, links = Operands(*rest[:4]), _links((*rest[4:], out, coefficients))
        made = operators.forward(key, keep, state, links, operands)
        ctx.key = key
        ctx.save_for_backward(state, *operands, made.coefficients, made.raw, made.stats, *rest[4:], out, coefficients)
        ctx.set_materialize_grads(False)
        following = made.next
        if following is None and not last:
            following = state.new_empty(()).expand(state.shape)
        return following, made.x, made.coefficients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_next: Tensor | None, g_x: Tensor | None, g_coefficients: Tensor | None) -> Any:
        state, fixed, weights, offset, scale, coefficients, raw, stats, *flat = ctx.saved_tensors
        operands, made = Operands(fixed, weights, offset, scale), Made(None, None, coefficients, raw, stats)
        grads = operators.backward(ctx.key, state, _links(flat), operands, made, g_next, g_x, g_coefficients)
        return (
            None, None, None, grads.state, None, grads.out, grads.coefficients,
            grads.fixed, grads.weights, grads.offset, grads.scale, *[None] * (len(flat) - 2),
        )  # fmt: skip


def _links(flat: Sequence[Any]) -> list[Link]:
    return [Link(*flat[k : k + 2]) for k in range(0, len(flat), 2)]
