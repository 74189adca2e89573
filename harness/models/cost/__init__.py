"""What a model costs, as formulas, without torch (docs/costs.md). Every formula is held against measurement."""

from harness.models.cost.budget import Memory, memory, traffic
from harness.models.cost.devices import DEVICES, Device, find_device
from harness.models.cost.kept import Place, Precision, saved_bytes
from harness.models.cost.operations import forward_flops, forward_flops_per_token, mfu, training_flops
from harness.models.cost.weights import Parameters, parameters

__all__ = [
    "DEVICES",
    "Device",
    "Memory",
    "Parameters",
    "Place",
    "Precision",
    "find_device",
    "forward_flops",
    "forward_flops_per_token",
    "memory",
    "mfu",
    "parameters",
    "saved_bytes",
    "traffic",
    "training_flops",
]
