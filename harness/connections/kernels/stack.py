"""A whole network of connections, boundary by boundary."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from harness.connections.kernels.boundary import boundary, entry
from harness.connections.kernels.form import Form, Link, Operands

if TYPE_CHECKING:
    from harness.connections.base import Branch


class Fusable(Protocol):
    """A stack that the kernels know."""

    def forms(self) -> tuple[Form, Form]:
        """That of a boundary, and that of the exit, whose coefficients are given."""
        ...

    def enter(self, x_BTD: Tensor) -> Tensor:
        """(B, T, R, W): the first state, or a view that stands for it."""
        ...

    def operands(self) -> Sequence[Operands]:
        """Of every sub-layer."""
        ...

    def exit_read(self) -> Tensor:
        """(R, C): coefficients of which the exit reads; what it reads is the network's state."""
        ...


def wired(stack: Fusable, x_BTD: Tensor, branches: Sequence[Branch], backend: ModuleType) -> Tensor:
    """(B, T, D): what the stack makes of the embedding, with the kernels of `backend`. Raises ValueError for another
    number of branches than it has sub-layers."""
    form, last = stack.forms()
    made = zip(stack.operands(), branches, strict=True)
    operands, branch = next(made)
    state, x_SD, coefficients = entry(form, stack.enter(x_BTD).flatten(0, 1), operands, backend)
    for operands, following in made:
        link = Link(branch(x_SD.view_as(x_BTD)).flatten(0, 1), coefficients)
        state, x_SD, coefficients = boundary(form, state, link, operands, backend)
        branch = following
    link = Link(branch(x_SD.view_as(x_BTD)).flatten(0, 1), coefficients)
    leaving = Operands(stack.exit_read())
    _, x_SD, _ = boundary(last, state, link, leaving, backend, last=True)
    return x_SD.view_as(x_BTD)
