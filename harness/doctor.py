"""`harness doctor`: is everything there that a run needs?"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

from harness.data.corpora import load_corpus
from harness.data.settings import StdlibSettings
from harness.errors import first_line
from harness.run.environment import PACKAGES, environment
from harness.run.layout import Layout

OPTIONAL = ("optuna",)


def checks(layout: Layout) -> list[dict[str, Any]]:
    """One dictionary a check: name, ok, what was found."""
    facts = environment()
    found: list[dict[str, Any]] = []

    def check(name: str, look: Callable[[], str]) -> None:
        try:
            found.append({"check": name, "ok": True, "found": look()})
        except Exception as error:
            found.append({"check": name, "ok": False, "found": first_line(error)})

    def packages() -> str:
        missing = [name for name in PACKAGES if facts["packages"][name] is None and name not in OPTIONAL]
        if missing:
            raise RuntimeError(f"not installed: {', '.join(missing)}")
        return ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)

    def results() -> str:
        layout.prepare()
        free = shutil.disk_usage(layout.root).free / 2**30
        return f"{layout.root.resolve()}, {free:.1f} GiB free"

    def tracker() -> str:
        record = layout.tracker()
        record.connect()
        return record.uri

    def corpus() -> str:
        loaded = load_corpus(StdlibSettings())
        return f"{loaded.train_bytes / 1e6:.1f} MB to train on, {loaded.valid_bytes / 1e6:.2f} MB held out"

    def memory() -> str:
        import psutil

        return (
            f"{psutil.virtual_memory().available / 2**30:.1f} GiB free of {psutil.virtual_memory().total / 2**30:.1f}"
        )

    def devices() -> str:
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{facts['cores']} cores, {torch.backends.cpu.get_cpu_capability()}; GPUs: {', '.join(gpus) or 'none'}"

    check("python", lambda: str(facts["python"]))
    check("packages", packages)
    check("cpu", lambda: str(facts["cpu"]))
    if importlib.util.find_spec("torch"):
        check("devices", devices)
    check("memory", memory)
    check("results folder", results)
    check("tracker", tracker)
    check("corpus stdlib", corpus)
    check(
        "code",
        lambda: str(facts["code"]["commit"] or "not a git checkout") + " (changed)" * bool(facts["code"]["dirty"]),
    )
    return found


def checks_text(found: list[dict[str, Any]]) -> str:
    return "\n".join(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['found']}" for check in found)
