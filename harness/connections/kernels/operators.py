"""Kernels by name: called as they are, or, where a model is compiled, as operators whose shapes the compiler knows.

An operator takes and returns plain lists of tensors, so what is not there is a tensor without entries, and a form and
its backend are a word that stands for them here.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from harness.connections.kernels.form import Form, Grads, Link, Made, Operands


class Backend(Protocol):
    """A module of kernels."""

    NAME: str
    """What a cell records of the path that it took."""

    def takes(self, x: Tensor) -> bool:
        """Whether they are for such a tensor, by its device and dtype."""
        ...

    def forward(self, form: Form, state: Tensor, links: Sequence[Link], operands: Operands, keep: bool) -> Made:
        """Everything that a boundary makes; `next` only where it is to be kept."""
        ...

    def backward(
        self,
        form: Form,
        state: Tensor,
        links: Sequence[Link],
        operands: Operands,
        made: Made,
        g_next: Tensor | None,
        g_x: Tensor | None,
        g_coefficients: Tensor | None,
    ) -> Grads:
        """Gradients of what it was given; only the last link has any."""
        ...


BACKENDS = {"native": "harness.connections.kernels.native", "triton": "harness.connections.kernels.triton_backend"}
"""Modules by their NAME."""

_known: dict[str, tuple[Form, Backend]] = {}
_used: dict[str, Backend] = {}


def backend_of(name: str) -> Backend:
    """The kernels of that name. Raises ImportError where their compiler is not there."""
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def key_of(form: Form, backend: Backend) -> str:
    """The word for them."""
    key = f"{backend.NAME} {form.key}"
    if key not in _known:
        _known[key] = form, backend
        _used[backend.NAME] = backend
    return key


def forward(key: str, keep: bool, state: Tensor, links: Sequence[Link], operands: Operands) -> Made:
    """`Backend.forward`."""
    if _traced(state):
        made = _forward(key, keep, state, _flat(links), list(operands))
        return Made(*[one if one.numel() else None for one in made])
    form, backend = _known[key]
    return backend.forward(form, state, links, operands, keep)


def backward(
    key: str,
    state: Tensor,
    links: Sequence[Link],
    operands: Operands,
    made: Made,
    g_next: Tensor | None,
    g_x: Tensor | None,
    g_coefficients: Tensor | None,
) -> Grads:
    """`Backend.backward`."""
    if _traced(state):
        given = [made.coefficients, made.raw, made.stats, g_next, g_x, g_coefficients]
        grads = _backward(key, state, _flat(links), list(operands), given)
        state_grad, *others = (one if one.numel() else None for one in grads)
        assert state_grad is not None
        return Grads(state_grad, *others)  # type: ignore[arg-type]
    form, backend = _known[key]
    return backend.backward(form, state, links, operands, made, g_next, g_x, g_coefficients)


def take(name: str, x: Tensor) -> bool:
    """`Backend.takes` of kernels that have a key."""
    return _used[name].takes(x)


def _traced(state: Tensor) -> bool:
    """Whether shapes alone are asked for: by a compiler, or of tensors that have nothing else."""
    return torch.compiler.is_compiling() or type(state) is not Tensor


def _flat(links: Sequence[Link]) -> list[Tensor]:
    return [tensor for link in links for tensor in link]


def _paired(flat: Sequence[Tensor]) -> list[Link]:
    return [Link(*flat[k : k + 2]) for k in range(0, len(flat), 2)]


def _whole(tensors: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
    return [like.new_empty(0) if one is None else one for one in tensors]


@torch.library.custom_op("connection_harness::boundary", mutates_args=())
def _forward(key: str, keep: bool, state: Tensor, links: list[Tensor], operands: list[Tensor | None]) -> list[Tensor]:
    form, backend = _known[key]
    made = backend.forward(form, state, _paired(links), Operands(*operands), keep)  # type: ignore[arg-type]
    return _whole(made, state)


@_forward.register_fake
def _(key: str, keep: bool, state: Tensor, links: list[Tensor], operands: list[Tensor | None]) -> list[Tensor]:
    form, tokens = _known[key][0], state.shape[0]

    def small(*shape: int) -> Tensor:
        return state.new_empty(shape, dtype=torch.float32) if form.mixer != "given" else state.new_empty(0)

    return [
        state.new_empty((tokens, form.rows, form.width) if keep and links else (0,)),
        state.new_empty((tokens, form.parts * form.width)),
        small(tokens, form.rows, form.columns),
        small(tokens, form.raw) if form.joint else small(tokens, form.rows, form.raw),
        small(tokens, 1) if form.joint else small(tokens, form.rows, 2),
    ]


@torch.library.custom_op("connection_harness::boundary_backward", mutates_args=())
def _backward(
    key: str, state: Tensor, links: list[Tensor], operands: list[Tensor | None], given: list[Tensor | None]
) -> list[Tensor]:
    form, backend = _known[key]
    made, incoming = Made(None, None, *given[:3]), given[3:]
    grads = backend.backward(form, state, _paired(links), Operands(*operands), made, *incoming)  # type: ignore[arg-type]
    return _whole(grads, state)


@_backward.register_fake
def _(
    key: str, state: Tensor, links: list[Tensor], operands: list[Tensor | None], given: list[Tensor | None]
) -> list[Tensor]:
    form = _known[key][0]
    last = [torch.empty_like(one) for one in links[-2:]] or [state.new_empty(0)] * 2
    made = [state.new_empty(0) if one is None else torch.empty_like(one) for one in operands]
    return [state.new_empty((state.shape[0], form.rows, form.width)), *last, *made]
