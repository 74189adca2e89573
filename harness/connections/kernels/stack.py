"""Stacks that can go boundary by boundary, and whether they do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from harness.connections.base import Branch, SublayerConnection, SublayerConnections
from harness.connections.kernels.boundary import Backend, boundary, entry
from harness.connections.kernels.form import Form, Link, Operands


class FusableConnection(SublayerConnection):
    """The connection around one sub-layer, of a type that the kernels know."""

    @abstractmethod
    def operands(self) -> Operands:
        """What its coefficients are made of, for the kernels; differentiable."""


class FusableConnections(SublayerConnections):
    """A stack of such connections. With `kernels` it goes from boundary to boundary, where they take such an embedding;
    else sub-layer by sub-layer, in plain PyTorch."""

    kernels: Backend | None = None

    @abstractmethod
    def forms(self) -> tuple[Form, Form] | None:
        """That of a boundary between two sub-layers and that of the exit; None for a variant without kernels."""

    @abstractmethod
    def exit_read(self, like: Tensor) -> Tensor:
        """(R, C) on the device of `like`: `collapse`, as coefficients of which the read columns count."""

    def enter(self, x_BTD: Tensor) -> Tensor:
        """(B, T, R, W): the first state, or a view that stands for it."""
        return self.expand(x_BTD)

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        if self.kernels is not None and self.kernels.takes(x_BTD):
            return self._fused(x_BTD, branches, self.kernels)
        return super().forward(x_BTD, branches)

    def _fused(self, x_BTD: Tensor, branches: Sequence[Branch], backend: Backend) -> Tensor:
        forms = self.forms()
        assert forms is not None
        form, last = forms
        x_BTD = x_BTD.contiguous()
        state, link = None, None
        for module, branch in zip(self.sublayers, branches, strict=True):
            with torch.autocast(x_BTD.device.type, enabled=False):
                operands = cast(FusableConnection, module).operands()
                if state is None or link is None:
                    state, x_SD, coefficients = entry(form, self.enter(x_BTD).flatten(0, 1), operands, backend)
                else:
                    state, x_SD, coefficients = boundary(form, state, link, operands, backend)
            out_BTD = branch(x_SD.view_as(x_BTD))
            link = Link(out_BTD.to(x_BTD.dtype).flatten(0, 1), coefficients)
        assert state is not None
        assert link is not None
        _, x_SD, _ = boundary(last, state, link, Operands(self.exit_read(x_BTD)), backend, last=True)
        return x_SD.view_as(x_BTD)


def read_all(rate: int, like: Tensor) -> Tensor:
    """`exit_read` of streams that are summed."""
    read = torch.zeros(rate, rate + 2, device=like.device)
    read[:, 0] = 1.0
    return read
