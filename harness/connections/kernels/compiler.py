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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cache import cache_folder

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
"""No -ffast-math: NaN is to stay NaN, or a run that diverges would not be seen to."""

SECONDS, VERSION_SECONDS = 300, 20
"""A compiler that takes longer, to compile or to say its version, is given up."""


@dataclass(frozen=True)
class Problem:
    """Why there is no library."""

    why: str


def library(source: str, headers: tuple[str, ...], defined: Mapping[str, int]) -> ctypes.CDLL | Problem:
    """`source` of this folder, compiled with these macros and loaded. The compiler is $CC or cc; OpenMP's threads are
    those of torch, whose copy of libgomp is already there. Without OpenMP there is one thread."""
    folder = Path(__file__).parent
    compiler = ["cc"]
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or compiler
        version = _run([*compiler, "--version"], VERSION_SECONDS)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Problem(f"no C compiler ('{compiler[0]}': {_reason(error)})")
    macros = [f"-D{name}={value}" for name, value in defined.items()]
    text = [(folder / name).read_text() for name in (*headers, source)]
    key = hashlib.sha256("\0".join([*compiler, version, _instructions(), *FLAGS, *macros, *text]).encode())
    command = [*compiler, *FLAGS, *macros, str(folder / source), "-lm"]
    try:
        made = cache_folder() / "kernels" / f"{Path(source).stem}-{key.hexdigest()[:16]}.so"
        if not _ours(made):
            return Problem(f"{made.parent} can be written by others")
        return _loaded(command, made)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Problem(f"'{compiler[0]}' cannot compile the kernel: {_reason(error)}")


def _loaded(command: Sequence[str], made: Path) -> ctypes.CDLL:
    """The library, compiled where it is missing or cannot be loaded (it may be cut off, or of another system's C
    library)."""
    if made.exists():
        try:
            return ctypes.CDLL(str(made))
        except OSError:
            made.unlink(missing_ok=True)
    try:
        _compile([*command, "-fopenmp"], made)
    except subprocess.CalledProcessError:
        _compile(command, made)
    return ctypes.CDLL(str(made))


def _compile(command: Sequence[str], made: Path) -> None:
    """Whole or not at all: two processes may be at it, and machines go down."""
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        new = Path(folder) / made.name
        _run([*command, "-o", str(new)], SECONDS)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(made)


def _ours(made: Path) -> bool:
    """Whether nobody else (but root) could have put a library there; the folder is made if need be."""
    made.parent.mkdir(parents=True, exist_ok=True)
    for path in (made.parent, made):
        if path.exists() and (path.stat().st_uid not in (0, os.getuid()) or path.stat().st_mode & 0o002):
            return False
    return True


def _run(command: Sequence[str], seconds: int) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, errors="replace", timeout=seconds,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout


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
    """In a line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"took more than {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or "").strip().splitlines()
        wrong = [line for line in said if "error" in line] or said
        return wrong[0] if wrong else f"ended with {error.returncode} and said nothing"
    if isinstance(error, FileNotFoundError) and error.filename2 is not None:
        return "wrote no library"
    return str(error)
