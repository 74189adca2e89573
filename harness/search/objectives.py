"""What a search can make small, by name. Every one is a number that a trained cell has in its record."""

from __future__ import annotations

from dataclasses import dataclass

from harness.compare.match import LOSS


@dataclass(frozen=True)
class Objective:
    metric: str
    """In a cell's result, and, where there is a curve, in its validations."""
    title: str
    unit: str
    """Empty for the loss, whose unit is the suite's own."""
    curve: bool = False
    """Whether trials can be told apart on the way."""
    clock: bool = False
    """Measured with a clock: not the same twice, and higher where others work beside it."""


OBJECTIVES = {
    "loss": Objective(LOSS, "loss", "", curve=True),
    "bits_per_byte": Objective("validation/bits_per_byte", "bits per byte", "bits", curve=True),
    "saved_bytes": Objective("cost/saved_activation_bytes", "saved bytes", "bytes"),
    "peak_memory": Objective("cost/peak_cuda_bytes", "peak memory", "bytes"),
    "time": Objective("cost/train_seconds", "training time", "s", clock=True),
    "flops": Objective("cost/training_flops", "training FLOPs", "FLOPs"),
    "parameters": Objective("cost/parameters", "parameters", ""),
}
