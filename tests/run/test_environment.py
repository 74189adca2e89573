"""What a machine is called, found out without importing torch."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from harness.run import environment


def test_gpus_are_asked_for_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="NVIDIA H100 NVL\nNVIDIA A10G\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(environment, "DEVICE_FILES", ("/nowhere/at/all",))
    assert environment.gpus.__wrapped__() == ()
    assert asked == []
    monkeypatch.setattr(environment, "DEVICE_FILES", ("/",))
    assert environment.gpus.__wrapped__() == ("NVIDIA H100 NVL", "NVIDIA A10G")
