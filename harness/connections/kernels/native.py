"""The boundary as one pass of C over the state, on a CPU, in fp32. Compiled for one form at its first use, which takes
about a second, and kept in the cache."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.connections.kernels.compiler import Problem, library
from harness.connections.kernels.form import Form, Grads, Link, Made, Operands

NAME = "native"

MOST_LINKS = 4
"""As in rows.h."""

MOST_STATE = 1 << 16
"""Numbers of one token's state."""

MOST_BALANCE = 1 << 19
"""Bytes of what Sinkhorn's iterations keep on a thread's stack, for a tile of eight tokens."""

_POINTERS = ctypes.c_void_p * MOST_LINKS
_STRIDES = ctypes.c_int64 * MOST_LINKS


class _Boundary(ctypes.Structure):
    """As in rows.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "threads", "links")),
        ("state", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("state_token", "state_row")),
        *((name, _POINTERS) for name in ("out", "coefficients")),
        ("coefficients_token", _STRIDES),
        *((name, ctypes.c_void_p) for name in Operands._fields),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("next", "x", "made", "raw", "stats", "g_next", "g_x", "g_made")),
        *((f"g_{name}", ctypes.c_void_p) for name in ("state", "out", "coefficients", *Operands._fields)),
    )


def takes(x: Tensor) -> bool:
    """fp32 on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def problem(form: Form) -> str | None:
    """Why this form cannot be had here; None where it can."""
    if form.rows * form.width > MOST_STATE:
        return f"a state of {form.rows} x {form.width} numbers is too large"
    if 32 * form.rows * (form.rows + 2 * form.iterations + 1) > MOST_BALANCE:
        return f"{form.iterations} iterations are too many"
    found = _library(form)
    return found.why if isinstance(found, Problem) else None


def forward(form: Form, state: Tensor, links: Sequence[Link], operands: Operands, keep: bool) -> Made:
    """One boundary (`form`). Contiguous fp32 tensors on the CPU, but for the state, whose tokens and rows may lie
    anywhere. Raises MemoryError."""
    tokens, dynamic = len(state), form.mixer != "given"
    small = (tokens, form.raw) if form.joint else (tokens, form.rows, form.raw)
    made = Made(
        next=state.new_empty(tokens, form.rows, form.width) if keep and links else None,
        x=state.new_empty(tokens, form.parts * form.width),
        coefficients=state.new_empty(tokens, form.rows, form.columns) if dynamic else None,
        raw=state.new_empty(small) if dynamic else None,
        stats=state.new_empty((tokens, 1) if form.joint else (tokens, form.rows, 2)) if dynamic else None,
    )
    call = _call(form, state, links, operands)
    call.next, call.x, call.made, call.raw, call.stats = map(_address, made)
    if _loaded(form).forward(ctypes.byref(call)):
        raise MemoryError("a connection's state")
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
    """Gradients from those of what `forward` made. Raises MemoryError."""
    tokens = len(state)
    incoming = [None if one is None else one.contiguous() for one in (g_next, g_x, g_coefficients)]
    last = links[-1] if links else None
    shared = last is not None and last.coefficients.ndim == 2
    grads = Grads(
        state=state.new_empty(tokens, form.rows, form.width),
        out=torch.empty_like(last.out) if last else None,
        coefficients=(torch.zeros_like if shared else torch.empty_like)(last.coefficients) if last else None,
        fixed=torch.zeros_like(operands.fixed),
        weights=None if operands.weights is None else torch.zeros_like(operands.weights),
        offset=None if operands.offset is None else torch.zeros_like(operands.offset),
        scale=None if operands.scale is None else torch.zeros_like(operands.scale),
    )
    call = _call(form, state, links, operands)
    call.made, call.raw, call.stats = map(_address, (made.coefficients, made.raw, made.stats))
    call.g_next, call.g_x, call.g_made = map(_address, incoming)
    for name, tensor in zip(Grads._fields, grads, strict=True):
        setattr(call, f"g_{name}", _address(tensor))
    if _loaded(form).backward(ctypes.byref(call)):
        raise MemoryError("the gradients of a connection")
    return grads


def _call(form: Form, state: Tensor, links: Sequence[Link], operands: Operands) -> _Boundary:
    call = _Boundary(
        tokens=len(state), threads=max(1, min(torch.get_num_threads(), len(state))), links=len(links), eps=form.eps
    )
    call.state, call.state_token, call.state_row = state.data_ptr(), state.stride(0), state.stride(1)
    for place, link in enumerate(links):
        call.out[place], call.coefficients[place] = link.out.data_ptr(), link.coefficients.data_ptr()
        call.coefficients_token[place] = 0 if link.coefficients.ndim == 2 else form.rows * form.columns
    for name, tensor in zip(Operands._fields, operands, strict=True):
        setattr(call, name, _address(tensor))
    return call


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _loaded(form: Form) -> ctypes.CDLL:
    found = _library(form)
    if isinstance(found, Problem):
        raise RuntimeError(found.why)
    return found


@functools.cache
def _library(form: Form) -> ctypes.CDLL | Problem:
    """Compiled, or why not; decided once in a process."""
    sizes = {
        "ROWS": form.rows, "PARTS": form.parts, "WRITTEN": form.written, "WIDTH": form.width,
        "DIAGONAL": int(form.diagonal),
    }  # fmt: skip
    if form.joint:
        how = {"SINKHORN": int(form.mixer == "sinkhorn"), "ITERATIONS": form.iterations}
        return library("manifold.c", ("rows.h",), {**sizes, **how})
    norm = ("none", "layer", "rms").index(form.norm)
    how = {"AFFINE": int(form.mixer == "affine"), "NORM": norm, "TANH": int(form.tanh)}
    return library("rows.c", ("rows.h",), {**sizes, **how})
