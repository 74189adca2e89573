"""Freed memory stays with the process: the next step finds it without asking the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
from harness.training.memory import keep_freed_memory

def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
tensors = [torch.ones(2**22) for _ in range(8)]  # 16 MiB each
held = resident() - before
del tensors
print(held, resident() - before)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="a setting of glibc's"
)
def test_what_a_step_freed_is_there_for_the_next() -> None:
    mebibytes = {}
    for how in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        held, freed = map(int, done.stdout.split())
        assert held > 100
        mebibytes[how] = freed
    assert mebibytes["keep"] > 100 > 28 > mebibytes["leave"], mebibytes
