"""What a worker records of a failure, and the environment of every cell."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.errors import DivergedError, UsageError
from harness.run.cell import describe
from harness.run.celldir import CellDir
from harness.run.environment import environment, torch_environment


def test_failures_have_classes_and_the_end_of_the_log(tmp_path: Path) -> None:
    cell = CellDir(tmp_path)
    cell.log.write_text("\n".join(f"line {i}" for i in range(100)))
    kinds = {
        "diverged": DivergedError(7, float("nan")),
        "memory": torch.cuda.OutOfMemoryError("CUDA out of memory"),
        "configuration": UsageError("data: too few tokens"),
        "error": ZeroDivisionError("division by zero"),
    }
    for kind, error in kinds.items():
        failure = describe(error, cell)
        assert failure["class"] == kind
        assert failure["tail"].endswith("line 99")
        assert "line 10\n" not in failure["tail"]
    assert describe(kinds["diverged"], cell)["step"] == 7
    assert describe(RuntimeError("DefaultCPUAllocator: not enough memory"), cell)["class"] == "memory"
    assert "ZeroDivisionError" in describe(kinds["error"], cell)["message"]


def test_the_environment_names_versions_machine_and_code() -> None:
    found = environment()
    assert (
        found["packages"]["torch"] == torch.__version__.split("+")[0] or found["packages"]["torch"] == torch.__version__
    )
    assert found["cpu"]
    assert set(found["code"]) == {"commit", "dirty", "source"}
    assert torch_environment()["threads"] >= 1
