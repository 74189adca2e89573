"""One model under measurement among others in the same process: made, warmed up, and visited in turn with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.training.step import Stepper


@dataclass
class Lane:
    """What is known of the model, and what its visits took."""

    stepper: Stepper
    saved_bytes: int
    first_step_seconds: float
    step_seconds: float
    """After the first, roughly."""
    resident: int
    """Bytes on a GPU that it holds between its steps: weights, the optimiser's state, buffers."""
    seconds: list[float] = field(default_factory=list)
    """Of a step, visit by visit."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Likewise, of all threads of this process together."""
    peak: int | None = None
    """Bytes, on a GPU."""

    def visit(self, steps: int) -> None:
        """Some steps of training, timed. The peak is what the allocator had at most in them, less what it had before
        them that is not this model's."""
        cuda = self.stepper.device.type == "cuda"
        others = torch.cuda.memory_allocated() - self.resident if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        used = time.process_time()
        self.seconds.append(self.stepper.seconds(steps))
        self.cpu_seconds.append((time.process_time() - used) / steps)
        if cuda:
            self.peak = max(self.peak or 0, torch.cuda.max_memory_allocated() - others)


def open_lane(make: Callable[[], Stepper], device: torch.device) -> Lane:
    """The first visit: everything made, and two steps that no round counts."""
    cuda = device.type == "cuda"
    if cuda:  # cuBLAS takes its workspace at the first product, and it is nobody's
        torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
    before = torch.cuda.memory_allocated() if cuda else 0
    stepper = make()
    first = stepper.seconds(1)
    second = stepper.seconds(1)
    resident = torch.cuda.memory_allocated() - before if cuda else 0
    return Lane(stepper, stepper.saved_bytes(), first, second, resident)
