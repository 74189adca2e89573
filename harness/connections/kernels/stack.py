"""Stacks that can go boundary by boundary, and whether they do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.connections.base import Branch, SublayerConnections
from harness.connections.kernels.boundary import boundary, entry
from harness.connections.kernels.form import Form, Link, Operands
from harness.connections.kernels.operators import Backend, backend_of, key_of, take


class FusableConnections(SublayerConnections):
    """A stack of such connections. Told to `use` kernels it goes from boundary to boundary, where they take such an
    embedding; else sub-layer by sub-layer, in plain PyTorch."""

    kernels: str | None = None
    """Their name; kept instead of the module, so that a stack can be copied and pickled."""
    _keys = "", ""

    def use(self, kernels: Backend | None) -> None:
        """Takes these kernels from now on, or none. Raises ValueError for a variant that has none."""
        if kernels is not None:
            forms = self.forms()
            if forms is None:
                raise ValueError(f"{type(self.sublayers[0]).__name__} has no kernels")
            self._keys = key_of(forms[0], kernels), key_of(forms[1], kernels)
        self.kernels = kernels.NAME if kernels is not None else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.kernels is not None:  # another process has to hear of the form
            self.use(backend_of(self.kernels))

    @abstractmethod
    def forms(self) -> tuple[Form, Form] | None:
        """That of a boundary between two sub-layers and that of the exit; None for a variant without kernels."""

    @abstractmethod
    def operands(self) -> Sequence[Operands]:
        """What the coefficients of every sub-layer are made of; differentiable."""

    @abstractmethod
    def exit_read(self, like: Tensor) -> Tensor:
        """(R, C) on the device of `like`: `collapse`, as coefficients of which the read columns count."""

    def enter(self, x_BTD: Tensor) -> Tensor:
        """(B, T, R, W): the first state, or a view that stands for it."""
        return self.expand(x_BTD)

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        if self.kernels is not None and take(self.kernels, x_BTD) and self._small_in_fp32(x_BTD.device):
            return self._fused(x_BTD, branches)
        return super().forward(x_BTD, branches)

    def _small_in_fp32(self, device: torch.device) -> bool:
        """Whether the stack's own numbers are what kernels read, wherever it has been moved."""
        return all(one.dtype == torch.float32 and one.device == device for one in self.sublayers[0].parameters())

    def _fused(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        key, last = self._keys
        x_BTD = x_BTD.contiguous()
        state, link = None, None
        with torch.autocast(x_BTD.device.type, enabled=False):
            every = self.operands()
        for operands, branch in zip(every, branches, strict=True):
            with torch.autocast(x_BTD.device.type, enabled=False):
                if state is None or link is None:
                    state, x_SD, coefficients = entry(key, self.enter(x_BTD).flatten(0, -3), operands)
                else:
                    state, x_SD, coefficients = boundary(key, state, link, operands)
            out_BTD = branch(x_SD.view_as(x_BTD))
            link = Link(out_BTD.to(x_BTD.dtype).expand_as(x_BTD).flatten(0, -2), coefficients)
        assert state is not None
        assert link is not None
        _, x_SD, _ = boundary(last, state, link, Operands(self.exit_read(x_BTD)), last=True)
        return x_SD.view_as(x_BTD)


def read_all(rate: int, like: Tensor) -> Tensor:
    """`exit_read` of streams that are summed."""
    read = torch.zeros(rate, rate + 2, device=like.device)
    read[:, 0] = 1.0
    return read
