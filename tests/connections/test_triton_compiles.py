"""Every kernel compiles for a GPU, which needs none: with the ptxas that comes with Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_support import ROOT

pytest.importorskip("triton", reason="no Triton on this platform")
SHARED = 232448
"""Bytes of shared memory that a program may have on an H100."""


def compiled(*options: str) -> list[dict[str, object]]:
    """In a process of its own, for here kernels are interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "boundary_sm90.py", "--json", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("links", ["0", "1", "2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_forms_compile_and_the_usual_ones_stay_in_registers(dtype: str, links: str) -> None:
    usual = ["dhc-n2", "dhc-n4", "shc-n4", "dfc-m4", "sfc-m4", "mhc-n4"]
    rows = compiled("--dtype", dtype, "--links", links, "--only", *usual, "dhc-n3", "ghc-m2n3", "mhc-n2", "identity-n4")
    assert {row["kernel"] for row in rows} == {
        "forward_kernel", "backward_kernel", "gates_kernel", "rows_kernel", "weights_kernel",
    }  # fmt: skip
    assert all(row["shared"] <= SHARED and row["resident"] >= 4 for row in rows)
    if dtype == "bfloat16" and links == "1":
        spilling = {(row["form"], row["width"], row["kernel"]): row["stack"] for row in rows if row["stack"] > 128}
        # Two programs of eight warps, with the state of a token, its gradient and the weights' of 8,192 numbers each.
        assert spilling.keys() <= {("dhc-n4", 2048, "backward_kernel")}, spilling


@pytest.mark.slow
def test_many_rows_compile() -> None:
    rows = compiled("--width", "768", "--only", "dhc-n8", "dhc-n16", "dfc-m16", "mhc-n8")
    assert all(row["shared"] <= SHARED for row in rows)
