"""Time and memory: what a step saves for the backward pass, peaks, and throughput without its warm-up."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

WARMUP_STEPS = 10
"""Steps of every process left out of the throughput: allocation, caches and clocks settle in them."""


def saved_bytes(forward: Callable[[], Tensor], owned: Iterable[Tensor]) -> int:
    """Bytes that `forward` keeps for its backward pass, counted with saved-tensor hooks: every storage once, however
    often it is saved, and none of those `owned`."""
    known = {t.untyped_storage().data_ptr() for t in owned}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        # Detached: what an operation made would hold that operation, which would hold it, and nobody would free them.
        # The graph itself lives until all is counted, so no address is used twice.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    size = sum(storages.values())
    del out
    return size


def saved_activation_bytes(model: nn.Module, batch: Sequence[Tensor], losses: Callable[..., Tensor]) -> int:
    """Bytes that one training step keeps for its backward pass, with `losses(model, *batch)` for its losses, without
    parameters, buffers and the batch. A property of the operations and shapes: the same on every machine with the same
    kind of device and torch. The model and the random state are left as found."""
    devices = [tensor.device for tensor in batch[:1] if tensor.device.type == "cuda"]
    with torch.random.fork_rng(devices=devices):
        return saved_bytes(lambda: losses(model, *batch).mean(), [*model.parameters(), *model.buffers(), *batch])


def peak_memory() -> dict[str, float]:
    """Peak resident memory of this process in bytes, and of the CUDA allocator where there is one."""
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = {"peak_rss_bytes": float(rss if sys.platform == "darwin" else rss * 1024)}
    if torch.cuda.is_available():
        peaks["peak_cuda_bytes"] = float(torch.cuda.max_memory_allocated())
        peaks["peak_cuda_reserved_bytes"] = float(torch.cuda.max_memory_reserved())
    return peaks


class Throughput:
    """Seconds per step over windows of steps, in which pauses (validation, checkpoints) do not count."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, float]] = []
        self._steps_seen = 0

    def add(self, steps: int, seconds: float) -> None:
        """One window. Windows that reach into this process's first steps are left out."""
        if self._steps_seen >= WARMUP_STEPS and steps and seconds > 0:
            self.windows.append((steps, seconds))
        self._steps_seen += steps

    def seconds_per_step(self) -> float | None:
        """Median over the windows; None when the run was too short to have one after the warm-up."""
        return statistics.median(seconds / steps for steps, seconds in self.windows) if self.windows else None

    def state(self) -> dict[str, Any]:
        return {"windows": [list(window) for window in self.windows]}

    def restore(self, state: dict[str, Any]) -> None:
        self.windows = [(int(steps), float(seconds)) for steps, seconds in state["windows"]]
