"""`train.compile`: the losses of a training step by torch.compile, or in eager PyTorch with a line that says why.

What is compiled is a function around the model and not the model: no name of a weight changes, and validation,
diagnostics and scores call the same model in eager PyTorch.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FunctionType
from typing import Protocol

import torch
from torch import Tensor

from harness.errors import first_line
from harness.models.network import Network
from harness.training.settings import TrainSettings

BACKEND = "inductor"

Precision = Callable[[], AbstractContextManager[object]]


class Losses(Protocol):
    """What is compiled: an objective's losses."""

    def losses(self, model: Network, *batch: Tensor) -> Tensor: ...


class Compiled:
    """The losses of a model in training. Until `prepare` has compiled them, and where it cannot, in eager PyTorch."""

    def __init__(self, objective: Losses, model: Network, settings: TrainSettings):
        self.objective, self.model, self.settings = objective, model, settings
        self.seconds: float | None = None
        """That compiling took, beyond a step each; None for what is not compiled."""
        self._function: Callable[..., Tensor] = _losses

    def __call__(self, *batch: Tensor) -> Tensor:
        return self._function(self.objective, self.model, *batch)

    def prepare(self, batches: Sequence[Sequence[Tensor]], precision: Precision) -> None:
        """Where the settings ask for it, compile for batches of these shapes by a pass through each in the context
        `precision`. The random state and the gradients, none, are left as found. What cannot be compiled is a warning,
        and stays eager."""
        if not self.settings.compile:
            return
        device = batches[0][0].device
        try:
            self._function = _compile(self.settings, device)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _unlogged():
                self.seconds = sum(self._surplus(batch, precision) for batch in batches)
        except Exception as error:  # of Dynamo, a backend, a compiler; an error of the model's own comes again
            self._function = _losses
            cause = getattr(error, "inner_exception", error)
            why = f"{type(cause).__name__}: {first_line(' '.join(str(cause).split()))}"
            warnings.warn(f"train.compile: trained in eager PyTorch, for compiling failed ({why})", stacklevel=2)
        finally:
            self.model.auxiliary_losses()
            self.model.zero_grad()

    def _surplus(self, batch: Sequence[Tensor], precision: Precision) -> float:
        """Seconds that the first pass takes beyond a second one."""
        first, second = (self._pass(batch, precision) for _ in range(2))
        return max(first - second, 0.0)

    def _pass(self, batch: Sequence[Tensor], precision: Precision) -> float:
        began = _now(batch[0].device)
        with torch.enable_grad(), precision():
            loss = self(*batch).mean()
            loss = loss + sum(self.model.auxiliary_losses().values())
        loss.backward()
        return _now(batch[0].device) - began


def _losses(objective: Losses, model: Network, *batch: Tensor) -> Tensor:
    return objective.losses(model, *batch)


def _compile(settings: TrainSettings, device: torch.device) -> Callable[..., Tensor]:
    """`_losses` in graphs of fixed shapes. Dynamo keeps eight of a code object, and a process may train or measure more
    models than that: every one gets a code object of its own."""
    function = FunctionType(_losses.__code__.replace(), globals(), "losses")
    if BACKEND != "inductor":
        return torch.compile(function, backend=BACKEND, dynamic=False)
    # Dropout is drawn as in eager PyTorch, so that the two differ by rounding alone.
    options: dict[str, str | int | bool | Callable[..., object]] = {"fallback_random": True}
    if device.type == "cpu":  # the cell's share of the cores, for the compiler too
        options["compile_threads"] = settings.threads
    return torch.compile(function, backend=BACKEND, dynamic=False, options=options)


@contextmanager
def _unlogged() -> Iterator[None]:
    """A failure is told in one line; torch would log its tracebacks besides."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
