"""C sources of this package, compiled where they run: with the instructions of this CPU, and kept in the cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cache import cache_folder

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-fopenmp")
"""No -ffast-math: NaN is to stay NaN, or a run that diverges would not be seen to."""

SECONDS = 300
"""A compiler that takes longer is given up."""


@dataclass(frozen=True)
class Problem:
    """Why there is no library."""

    why: str


def library(source: str, headers: tuple[str, ...], defined: Mapping[str, int]) -> ctypes.CDLL | Problem:
    """`source` of this folder, compiled with these macros and loaded. The compiler is $CC or cc; OpenMP's threads are
    those of torch, whose copy of libgomp is already there."""
    folder = Path(__file__).parent
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    try:
        version = _version(tuple(compiler))
    except (OSError, subprocess.SubprocessError) as error:
        return Problem(f"no C compiler ('{compiler[0]}': {_reason(error)})")
    macros = [f"-D{name}={value}" for name, value in defined.items()]
    parts = [version, _instructions(), *FLAGS, *macros, *((folder / name).read_text() for name in (*headers, source))]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    made = cache_folder() / "kernels" / f"{Path(source).stem}-{key}.so"
    try:
        if not made.exists():
            _compile([*compiler, *FLAGS, *macros, str(folder / source), "-lm"], made)
        return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError) as error:
        return Problem(f"'{compiler[0]}' cannot compile the kernel: {_reason(error)}")


def _compile(command: list[str], made: Path) -> None:
    """Whole or not at all: two processes may be at it."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        new = Path(folder) / made.name
        subprocess.run([*command, "-o", str(new)], check=True, capture_output=True, text=True, timeout=SECONDS)
        new.replace(made)


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    return subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True, timeout=SECONDS).stdout


@functools.cache
def _instructions() -> str:
    """What tells this CPU from one that would not run its code: homes are shared by machines."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return f"{platform.machine()} {platform.processor()}"


def _reason(error: Exception) -> str:
    said = (getattr(error, "stderr", None) or "").strip().splitlines()
    wrong = [line for line in said if "error" in line] or said
    return wrong[0] if wrong else str(error)
