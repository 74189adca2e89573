"""What the tests of the bench share: its smallest preset, one thread, and a process that ends badly."""

from __future__ import annotations

import os

import pytest

from harness.bench import machine, measure, presets
from harness.bench.work import Where

TOY = presets.find("bench-toy")
HERE = Where(device="cpu", threads=1)


def quick(patch: pytest.MonkeyPatch) -> None:
    """Less of everything that only makes figures steadier."""
    patch.setattr(machine, "COPIED", 2**20)
    patch.setattr(machine, "SIDES", {"cpu": 64, "cuda": 64})
    patch.setattr(machine, "busy_cores", lambda: 0.0)
    patch.setattr(measure, "VISIT_SECONDS", 0.0)


def end(*_: object) -> None:
    """In the place of work in another process, which has to import it."""
    os._exit(9)
