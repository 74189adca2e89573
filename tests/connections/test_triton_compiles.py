"""Every kernel compiles for a GPU, which needs none: with the ptxas that comes with Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tiny_support import ROOT

pytest.importorskip("triton", reason="no Triton on this platform")
SHARED = 232448
"""Bytes of shared memory that a program may have on an H100."""


def compiled(*options: str) -> list[dict[str, Any]]:
    """In a process of its own, for here kernels are interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "boundary_sm90.py", "--json", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["rows"]


USUAL = ["dhc-n2", "dhc-n4", "shc-n4", "dfc-m4", "sfc-m4", "mhc-n4"]
KERNELS = {"forward_kernel", "backward_kernel", "gates_kernel", "rows_kernel", "weights_kernel"}


@pytest.mark.slow
def test_the_usual_forms_stay_in_registers() -> None:
    """Where they spill a few, these have room in the nearest cache: 200 bytes of 384 threads are a third of it."""
    rows = compiled("--only", *USUAL)
    assert {row["kernel"] for row in rows} == KERNELS
    assert {(row["form"], row["width"]) for row in rows} == {(form, width) for form in USUAL for width in (768, 2048)}
    assert [row for row in rows if row["stack"] > 200 or row["shared"] > SHARED or row["resident"] < 8] == []


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "links"), [("float32", "0"), ("float32", "1"), ("bfloat16", "2")])
def test_all_kinds_of_forms_compile(dtype: str, links: str) -> None:
    some = ["dhc-n3", "shc-n4", "dfc-m4", "ghc-m2n3", "mhc-n2", "identity-n4"]
    rows = compiled("--dtype", dtype, "--links", links, "--width", "768", "--only", *some)
    assert {row["kernel"] for row in rows} == KERNELS
    assert all(row["shared"] <= SHARED for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dhc-n8", "dhc-n16", "mhc-n8"])
def test_many_rows_compile(form: str) -> None:
    """If not fast: a minute and more, and they spill."""
    assert all(row["shared"] <= SHARED for row in compiled("--width", "768", "--only", form))
