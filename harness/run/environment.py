"""What a number was made with: versions, machine, code. Recorded with every cell; `doctor` prints it."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "lm_eval", "mlflow", "optuna", "numpy", "scipy", "pydantic", "datasets")
DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of NVIDIA's driver, of AMD's, and of either under Windows."""


DECIDING = ("connections", "data", "evaluation", "models", "training")
"""Packages of ours whose code decides the numbers of a cell; the rest runs, records and compares them."""


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything; None for what is not there."""
    found: dict[str, str | None] = {}
    for package in ("connection-harness", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def code() -> dict[str, Any]:
    """Commit of the harness's own checkout and whether it was changed since, nulls outside a checkout; and a digest of
    the code that decides numbers, which tells two states apart where the commit does not, and only where it matters."""
    root = Path(__file__).resolve().parents[2]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None, "source": source_digest()}
    return {"commit": commit, "dirty": dirty, "source": source_digest()}


@functools.cache
def source_digest(parts: tuple[str, ...] = DECIDING) -> str:
    """Of the files of packages of ours, as they were when this process first asked."""
    package = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for name in parts:
        for path in sorted((package / name).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                found.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def gpus() -> tuple[str, ...]:
    """Names of the devices that torch sees, asked in a process of its own; none, and nothing asked, where the system
    has no file of a device."""
    if not any(Path(file).exists() for file in DEVICE_FILES):
        return ()
    ask = "import torch; print(*map(torch.cuda.get_device_name, range(torch.cuda.device_count())), sep='\\n')"
    try:
        said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(said.stdout.split("\n")[:-1]) if said.stdout.strip() else ()


def environment() -> dict[str, Any]:
    """Python, packages, machine and code, without torch."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "packages": versions(),
        "code": code(),
        "executable": Path(sys.executable).name,
    }


def torch_environment() -> dict[str, Any]:
    """What torch adds: build, threads, vector instructions, CUDA devices."""
    import torch

    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
