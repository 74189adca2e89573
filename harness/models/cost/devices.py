"""Accelerators: dense peaks, memory and bandwidth.

Data sheets print tensor-core peaks "with sparsity", twice what a dense product can reach; here all are dense. (A table
that mixed the two made H200 and H100 NVL look half as busy: github.com/Lightning-AI/pytorch-lightning/issues/21677.)
FP32 peaks are those of fp32 arithmetic; TF32, which torch uses for products only where it is told to, is another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator, as one device of torch."""

    name: str
    """Words that stand in `torch.cuda.get_device_name()`, in any order."""
    bf16: float | None
    """Dense FLOP/s of products in bf16, accumulated in fp32; None for a chip without."""
    fp32: float
    """Dense FLOP/s in fp32."""
    memory: int
    """Bytes, 10^9 to the sheet's GB: chips hold some more, about what driver and context take."""
    bandwidth: float
    """Bytes per second to and from that memory."""

    def peak(self, precision: Literal["fp32", "bf16"]) -> float | None:
        """FLOP/s of products in that precision."""
        return self.bf16 if precision == "bf16" else self.fp32


def _device(name: str, bf16: float | None, fp32: float, gigabytes: int, gigabytes_per_second: float) -> Device:
    return Device(
        name=name,
        bf16=None if bf16 is None else bf16 * 1e12,
        fp32=fp32 * 1e12,
        memory=gigabytes * 10**9,
        bandwidth=gigabytes_per_second * 1e9,
    )


# TFLOP/s in bf16, TFLOP/s in fp32, GB, GB/s.
DEVICES: tuple[Device, ...] = (
    # V100 data sheet (January 2020): tensor cores take fp16 alone.
    _device("V100 PCIE 16GB", None, 14.0, 16, 900),
    _device("V100 PCIE 32GB", None, 14.0, 32, 900),
    _device("V100 SXM2 16GB", None, 15.7, 16, 900),
    _device("V100 SXM2 32GB", None, 15.7, 32, 900),
    # T4 data sheet: the same.
    _device("T4", None, 8.1, 16, 320),
    # A100 data sheet (June 2021): bf16 312, 624 with sparsity.
    _device("A100 PCIE 40GB", 312.0, 19.5, 40, 1555),
    _device("A100 SXM4 40GB", 312.0, 19.5, 40, 1555),
    _device("A100 PCIE 80GB", 312.0, 19.5, 80, 1935),
    _device("A100 SXM4 80GB", 312.0, 19.5, 80, 2039),
    # A10 data sheet: 125, 250 with sparsity. The A10G of cloud instances is another chip: 70, 140 with sparsity.
    _device("A10", 125.0, 31.2, 24, 600),
    _device("A10G", 70.0, 31.5, 24, 600),
    # GA102 white paper, table 9: 71 where sums are in fp32 (142 in fp16), twice that with sparsity.
    _device("RTX 3090", 71.0, 35.6, 24, 936),
    # Ada white paper, appendix A: 165.2 where sums are in fp32 (330.3 in fp16), 330.4 with sparsity.
    _device("RTX 4090", 165.2, 82.6, 24, 1008),
    # L4 data sheet: 242 with sparsity. L40S: 362.05, 733 with sparsity.
    _device("L4", 121.0, 30.3, 24, 300),
    _device("L40S", 362.05, 91.6, 48, 864),
    # H100 white paper, table 1 (SXM5, PCIe); data sheet for NVL: 1,671 with sparsity, for one of its two cards.
    _device("H100", 989.4, 66.9, 80, 3350),
    _device("H100 PCIe", 756.0, 51.2, 80, 2039),
    _device("H100 NVL", 835.5, 60.0, 94, 3938),
    # H200 data sheet: 1,979 (SXM) and 1,671 (NVL) with sparsity.
    _device("H200", 989.4, 66.9, 141, 4800),
    _device("H200 NVL", 835.5, 60.0, 141, 4800),
    # GH200 data sheet: 1,979 with sparsity; 96 GB of HBM3 or 144 GB of HBM3e.
    _device("GH200", 989.4, 66.9, 96, 4000),
    _device("GH200 144G", 989.4, 66.9, 144, 4900),
    # HGX B200 data sheet: 4.5 PFLOP/s with sparsity and 80 TFLOP/s in fp32 a chip; 180 GB of the 192 are usable.
    _device("B200", 2250.0, 80.0, 180, 8000),
    # MI250X data sheet: 383 and, for fp32 matrices, 95.7 for the module; torch sees its two dies as devices.
    _device("MI250X", 191.5, 47.85, 64, 1638),
    # MI300X data sheet: 1,307.4, 2,614.9 with sparsity.
    _device("MI300X", 1307.4, 163.4, 192, 5300),
)

OTHER_CHIPS = frozenset({"ti", "super", "laptop", "d", "max", "mig"})
"""Words that turn a name into that of another chip, or of a part of one."""


def find_device(name: str) -> Device | None:
    """The device that `torch.cuda.get_device_name()` calls `name`; None for one that is not in the table. The entry
    with most words in the name is meant: "NVIDIA H100 NVL" is not "H100"."""
    words = _words(name)
    fitting = [device for device in DEVICES if _words(device.name) <= words]
    if not fitting or words & OTHER_CHIPS:
        return None
    return max(fitting, key=lambda device: len(_words(device.name)))


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", name.lower()))
