"""The machine that a bench runs on: who else uses it, how fast it copies, how fast it multiplies."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from harness.run.environment import environment, torch_environment

COPIED = 256 * 2**20
"""Bytes of each of the two arrays of a copy: out of any cache."""
SIDES = {"cpu": 2048, "cuda": 8192}
"""Of the matrices of a product."""
COPIES, PRODUCTS = 3, 5
"""At a time; the fastest counts."""
BUSY = 0.1
"""Cores that others use, from which on a bench says so."""


class Copy:
    """Two large arrays on the device, one of which is copied into the other."""

    def __init__(self, device: torch.device):
        self.device = device
        self.source = torch.ones(COPIED // 4, device=device)
        self.target = torch.zeros_like(self.source)

    def bandwidth(self) -> float:
        """Bytes a second, those read and those written together, of the fastest of a few copies."""
        taken = []
        for _ in range(COPIES):
            began = _now(self.device)
            self.target.copy_(self.source)
            taken.append(_now(self.device) - began)
        return 2 * self.source.nbytes / min(taken)


def product_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of the fastest of a few products of square matrices."""
    size, dtype = SIDES[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    taken = []
    for _ in range(1 + PRODUCTS):
        began = _now(device)
        a @ b
        taken.append(_now(device) - began)
    return 2 * size**3 / min(taken[1:])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def busy_cores(seconds: float = 0.5) -> float | None:
    """Cores that others keep busy while this process sleeps; None where the system does not say."""
    before = _busy()
    time.sleep(seconds)
    after = _busy()
    if before is None or after is None:
        return None
    return max(0.0, (after - before) / seconds)


def _busy() -> float | None:
    """Seconds of all cores since the start that were not idle."""
    try:
        words = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _wait, *others = (int(word) for word in words[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """What figures were made with: machine, versions, code."""
    return {**environment(), **torch_environment()}


def name(device: torch.device) -> str:
    """Of the device's hardware."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(environment()["cpu"])
