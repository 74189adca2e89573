"""The boundary on a GPU, in Triton, in fp32 and bf16. Compiled for one form at its first use, which takes seconds, and
kept in Triton's cache; with TRITON_INTERPRET=1 before Triton is imported, interpreted on a CPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from harness.connections.kernels import triton_manifold, triton_rows
from harness.connections.kernels.form import Form, Grads, Link, Made, Operands
from harness.connections.kernels.triton_common import total_kernel
from harness.connections.kernels.triton_sizes import (
    BACKWARD,
    FORWARD,
    PRODUCTS,
    SUMS,
    grouped,
    log2,
    power,
    programs,
    rows_held,
    tokens_held,
)

NAME = "triton"

INTERPRETED = not isinstance(triton_rows.forward_kernel, triton.JITFunction)


def takes(x: Tensor) -> bool:
    """fp32 and bf16 on a GPU."""
    return x.device.type == ("cpu" if INTERPRETED else "cuda") and x.dtype in (torch.float32, torch.bfloat16)


def forward(form: Form, state: Tensor, links: Sequence[Link], operands: Operands, keep: bool) -> Made:
    """One boundary (`form`). The state's tokens and rows may lie anywhere, its columns side by side. Operands and
    coefficients are in fp32; operands are contiguous."""
    tokens, rows, small = len(state), form.rows, _small(state)
    dynamic = form.mixer != "given"
    made = Made(
        next=state.new_empty(tokens, rows, form.width) if keep and links else None,
        x=state.new_empty(tokens, form.parts * form.width),
        coefficients=small(tokens, rows, form.columns) if dynamic else None,
        raw=small(*((tokens, form.raw) if form.joint else (tokens, rows, form.raw))) if dynamic else None,
        stats=small(*((tokens, 1) if form.joint else (tokens, rows, 2))) if dynamic else None,
    )
    with _on(state):
        if form.joint:
            sizes = {**tokens_held(form, PRODUCTS), **grouped(form, state.dtype), **_gates(form)}
            triton_manifold.forward_kernel[(triton.cdiv(tokens, sizes["T"]),)](
                *_walk(form, state, links), operands.fixed, operands.weights, operands.scale,
                *made, tokens, form.eps, LINKS=len(links), **sizes,
            )  # fmt: skip
        else:
            triton_rows.forward_kernel[(tokens,)](
                *_walk(form, state, links), *operands, *made, form.eps,
                LINKS=len(links), **_rows(form),
                **rows_held(form.width, rows, FORWARD, rows * form.columns).options(),
            )  # fmt: skip
    return made


def backward(
    form: Form,
    state: Tensor,
    links: Sequence[Link],
    operands: Operands,
    made: Made,
    g_next: Tensor | None,
    g_x: Tensor | None,
    g_coefficients: Tensor | None,
) -> Grads:
    """Gradients from those of what `forward` made. On one kind of GPU the same bit for bit whenever they are asked for,
    and no two of them share memory."""
    with _on(state):
        incoming = [None if one is None else one.contiguous() for one in (g_next, g_x, g_coefficients)]
        return (_joint if form.joint else _apart)(form, state, links, operands, made, *incoming)


def _apart(
    form: Form,
    state: Tensor,
    links: Sequence[Link],
    operands: Operands,
    made: Made,
    *incoming: Tensor | None,
) -> Grads:
    """Mixers given and affine."""
    tokens, affine, small = len(state), form.mixer == "affine", _small(state)
    g_state, g_out, g_link = _to_link(form, state, links)
    shared = [links[-1].coefficients] if links and links[-1].coefficients.ndim == 2 else []
    held = 3 * form.rows + 2 * form.parts + (form.columns if affine else 0)
    sizes = rows_held(form.width, held, BACKWARD, form.rows * form.columns)
    order = (operands.weights, operands.fixed, operands.scale, operands.offset) if affine else (operands.fixed,)
    sums = [torch.empty_like(one) for one in (*order, *shared) if one is not None]
    partial = small(min(programs(state.device, sizes.programs), tokens), sum(one.numel() for one in sums))
    scratch = small(tokens, form.rows * (form.parts + form.columns + 3)) if affine else None
    triton_rows.backward_kernel[(len(partial),)](
        *_walk(form, state, links), *operands, *made[2:], *incoming, g_state, g_out, None if shared else g_link,
        scratch, partial, tokens, SHARED=bool(shared), LINKS=len(links), **_rows(form), **sizes.options(),
    )  # fmt: skip
    _add_up(partial, sums)
    if shared:
        g_link = sums.pop()
    if not affine:
        return Grads(g_state, g_out, g_link, sums[0], None, None, None)
    weights, fixed, scale, offset = sums
    return Grads(g_state, g_out, g_link, fixed, weights, offset, scale)


def _joint(
    form: Form,
    state: Tensor,
    links: Sequence[Link],
    operands: Operands,
    made: Made,
    g_next: Tensor | None,
    g_x: Tensor | None,
    g_coefficients: Tensor | None,
) -> Grads:
    """Mixers sinkhorn and identity."""
    fixed, weights, _, scale = operands
    assert weights is not None
    assert scale is not None
    tokens, small, given = len(state), _small(state), _walk(form, state, links)
    sizes = {**tokens_held(form, SUMS), **_gates(form)}
    blocks = triton.cdiv(tokens, sizes["T"])
    count = min(programs(state.device, 2), blocks)
    u, partial = small(tokens, form.raw + 1), small(count, 2 * form.raw)
    history = small(count, 2 * form.iterations + 1, sizes["T"], 2 ** sizes["LOG"])
    triton_manifold.gates_kernel[(count,)](
        *given, fixed, scale, made.raw, g_x, g_coefficients, u, history, partial, tokens, LINKS=len(links), **sizes
    )
    g_fixed, g_scale = torch.empty_like(fixed), torch.empty_like(scale)
    _add_up(partial, (g_fixed, g_scale))

    g_state, g_out, g_link = _to_link(form, state, links)
    sizes = {**tokens_held(form, PRODUCTS), **grouped(form, state.dtype), "LOG": log2(form.rows)}
    triton_manifold.rows_kernel[(triton.cdiv(tokens, sizes["T"]),)](
        *given, weights, made.coefficients, made.stats, u, g_next, g_x, g_state, g_out, g_link, tokens,
        LINKS=len(links), **sizes,
    )  # fmt: skip
    if g_link is not None and links[-1].coefficients.ndim == 2:
        g_link = g_link.sum(0)

    sizes = {**tokens_held(form, SUMS), **grouped(form, state.dtype)}
    chunks, groups = triton.cdiv(form.width, sizes["BLOCK"]), sizes.pop("GROUPS")
    partial = small(min(triton.cdiv(programs(state.device, 4), chunks), blocks), *weights.shape)
    triton_manifold.weights_kernel[(chunks, len(partial), groups)](
        *given, made.stats, u, partial, tokens, LINKS=len(links), **sizes
    )
    return Grads(g_state, g_out, g_link, g_fixed, partial.sum(0), None, g_scale)


def _walk(form: Form, state: Tensor, links: Sequence[Link]) -> tuple[object, ...]:
    """The arguments of `walk`."""
    strides = [0 if link.coefficients.ndim == 2 else form.rows * form.columns for link in links]
    outs = tuple(link.out.contiguous() for link in links)
    coefficients = tuple(link.coefficients.contiguous() for link in links)
    return state, state.stride(0), state.stride(1), outs, coefficients, tuple(strides)


def _to_link(form: Form, state: Tensor, links: Sequence[Link]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Room for the gradients of the last state, output and coefficients, these for every token."""
    tokens = len(state)
    g_state = state.new_empty(tokens, form.rows, form.width)
    if not links:
        return g_state, None, None
    g_out = torch.empty_like(links[-1].out, memory_format=torch.contiguous_format)
    return g_state, g_out, _small(state)(tokens, form.rows, form.columns)


def _rows(form: Form) -> dict[str, Any]:
    """What the kernels of rows are compiled for."""
    affine = form.mixer == "affine"
    return {
        "R": form.rows, "P": form.parts, "W": form.width, "DIAGONAL": form.diagonal,
        "AFFINE": affine, "NORM": form.norm if affine else "none", "TANH": form.tanh,
        "LOG": log2(form.rows), "CP": power(form.columns), "num_stages": 1, "enable_fp_fusion": True,
    }  # fmt: skip


def _gates(form: Form) -> dict[str, Any]:
    """What makes coefficients of raw numbers; without iterations the identity carries."""
    return {"ITERATIONS": form.iterations if form.mixer == "sinkhorn" else None, "LOG": log2(form.rows)}


def _add_up(partial: Tensor, outs: Sequence[Tensor]) -> None:
    """Sums the rows of `partial` (programs, all numbers of `outs`, one after another) into `outs`."""
    count, length = partial.shape
    total_kernel[(triton.cdiv(length, 32),)](
        partial, tuple(outs), count, tuple(out.numel() for out in outs), length, ROWS=64, COLUMNS=32
    )


def _small(state: Tensor) -> Callable[..., Tensor]:
    """Makes tensors in fp32 beside the state."""
    return functools.partial(torch.empty, device=state.device, dtype=torch.float32)


def _on(state: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(state.device) if state.is_cuda else contextlib.nullcontext()
