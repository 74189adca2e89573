"""Peak memory of a training step on a CPU: of a process that does nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from multiprocessing.connection import Connection
from pathlib import Path

from harness.bench import presets
from harness.bench.arms import BASELINE, Entry
from harness.bench.presets import Preset
from harness.bench.rounds import why
from harness.bench.work import Where, make_stepper
from harness.connections.settings import ResidualSettings
from harness.errors import HarnessError
from harness.run.executors import answer_of
from harness.training.memory import M_MMAP_THRESHOLD

STEPS = 3
LARGE = 256 * 2**10
"""Bytes."""
TOY = presets.find("bench-toy")
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(entry: Entry, preset: Preset, where: Where) -> int | None:
    """The most that a process had resident over a model's making and its first `STEPS` steps, less what was resident
    before: weights, gradients, the optimiser's moments, everything kept for the backward pass. The process is forked
    for it from one that has done its imports and nothing else; a step of a toy goes before, for what libraries take
    when they are first used is no model's.

    None where the system does not say (no /proc). Raises HarnessError for what goes wrong there.
    """
    if not RESET.exists():
        return None
    found: int | str = answer_of(_work, (entry, preset, where), name="the process that measures memory")
    if isinstance(found, str):
        raise HarnessError(found)
    return found


def _work(answer: Connection, entry: Entry, preset: Preset, where: Where) -> None:
    """Entry point of the process: sends the bytes, or what went wrong."""
    try:
        if entry.peer:
            import harness.conform.peers  # noqa: F401 - what is imported is no model's
        make_stepper(Entry(arm=BASELINE, connection=ResidualSettings()), TOY, where).seconds(1)
        _map_large_blocks()
        gc.collect()
        before = _resident("VmRSS")
        RESET.write_text("5")  # the peak begins anew (proc(5))
        make_stepper(entry, preset, where).seconds(STEPS)
        answer.send(_resident("VmHWM") - before)
    except Exception as error:
        answer.send(why(error))


def _map_large_blocks() -> None:
    """Have glibc map every large block by itself, so that what is freed is given back at once, and the peak is that of
    what is in use, as a GPU's allocator counts it. Training asks for the opposite (`training.memory`), for speed; left
    alone, the peak of the same step differs by a tenth from process to process."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def _resident(key: str) -> int:
    """Bytes, of a line of the process's status."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
