"""Which way a stack goes on a device: plain PyTorch or kernels, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from harness.connections.base import Connections
from harness.connections.kernels import native
from harness.connections.kernels.form import MOST_ROWS, Form
from harness.connections.kernels.operators import Backend
from harness.connections.kernels.stack import FusableConnections
from harness.errors import UsageError

Kernels = Literal["auto", "plain", "fused"]
"""`auto`: kernels where there are any for the type, the device and the precision; `fused`: an error where the type has
some and they cannot be had."""

PLAIN = "plain"
NO_TYPE = "this type of connection has none"


@dataclass(frozen=True)
class Choice:
    """The path that a stack takes: `plain`, `native` (C, on a CPU) or `triton` (on a GPU)."""

    path: str
    why: str = ""
    """Of the plain one: why there are no kernels."""


def choose(stack: Connections, kernels: Kernels, device: torch.device, dtype: torch.dtype) -> Choice:
    """Lets `stack` take the kernels for streams of this dtype on this device, and says which. What it is given later
    that they are not for goes the plain way. Raises UsageError where kernels are asked for and there are none."""
    if isinstance(stack, FusableConnections):
        stack.use(None)
    if kernels == "plain":
        return Choice(PLAIN, "asked for")
    found = _backend(stack, device, dtype)
    if not isinstance(found, str):
        assert isinstance(stack, FusableConnections)
        stack.use(found)
        return Choice(found.NAME)
    if kernels == "fused" and found != NO_TYPE:
        raise UsageError(f"train.kernels: 'fused' cannot be had: {found}; 'auto' would take plain PyTorch")
    return Choice(PLAIN, found)


def _backend(stack: Connections, device: torch.device, dtype: torch.dtype) -> Backend | str:
    """The kernels, or why there are none."""
    forms = stack.forms() if isinstance(stack, FusableConnections) else None
    if forms is None:
        return NO_TYPE
    if forms[0].rows > MOST_ROWS:
        return f"they take {MOST_ROWS} rows at most, and there are {forms[0].rows}"
    if device.type == "cpu":
        return _native(forms, dtype)
    if device.type == "cuda":
        return _triton(dtype)
    return f"there are none for {device.type}"


def _native(forms: tuple[Form, Form], dtype: torch.dtype) -> Backend | str:
    if dtype != torch.float32:
        return "on a CPU they are for fp32"
    for form in forms:
        if problem := native.problem(form):
            return problem
    return native


def _triton(dtype: torch.dtype) -> Backend | str:
    if dtype not in (torch.float32, torch.bfloat16):
        return "on a GPU they are for fp32 and bf16"
    try:
        from harness.connections.kernels import triton_backend
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    return triton_backend
