"""What compilers make of the Triton kernels for an H100 or H200, without one: that they compile at all, and how much of
a processor's registers and shared memory they take.

    python benchmarks/boundary_sm90.py
    python benchmarks/boundary_sm90.py --only dhc-n4 mhc-n4 --width 768 --json

Every kernel that a boundary launches, forward and backward, is compiled as it would be launched, on tensors without
data; ptxas and cuobjdump come with Triton. `stack` is what a thread spills of its registers, in bytes; `resident` how
many warps of the 64 that a processor can have are there at once. Not with TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.connections.kernels import triton_backend
from harness.connections.kernels.form import Form, Link, Operands

REGISTERS, SHARED, WARPS = 65536, 232448, 64
"""Of a processor: 32-bit registers, bytes of shared memory that its programs may have, warps."""

FORMS: dict[str, Callable[[int], Form]] = {
    "dhc-n2": lambda d: Form(2, 1, d, "affine", norm="layer"),
    "dhc-n4": lambda d: Form(4, 1, d, "affine", norm="layer"),
    "shc-n4": lambda d: Form(4, 1, d, "given"),
    "dfc-m4": lambda d: Form(4, 4, d // 4, "affine", diagonal=True, norm="layer"),
    "sfc-m4": lambda d: Form(4, 4, d // 4, "given", diagonal=True),
    "mhc-n4": lambda d: Form(4, 1, d, "sinkhorn", eps=1e-6, iterations=20),
    "dhc-n3": lambda d: Form(3, 1, d, "affine", norm="layer"),
    "dhc-n8": lambda d: Form(8, 1, d, "affine", norm="layer"),
    "dhc-n16": lambda d: Form(16, 1, d, "affine", norm="layer"),
    "dfc-m16": lambda d: Form(16, 16, d // 16, "affine", diagonal=True, norm="layer"),
    "ghc-m2n3": lambda d: Form(3, 2, d // 2, "affine", norm="rms"),
    "mhc-n2": lambda d: Form(2, 1, d, "sinkhorn", eps=1e-6, iterations=20),
    "mhc-n8": lambda d: Form(8, 1, d, "sinkhorn", eps=1e-6, iterations=20),
    "identity-n4": lambda d: Form(4, 1, d, "identity", eps=1e-6),
}
"""By the names of the tables, for a network of width d."""


class _Nobody:
    """A driver without a device, of which only the kind is asked."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@contextmanager
def compiling() -> Iterator[list[tuple[str, Any]]]:
    """Within, kernels are compiled for sm_90 and not launched; gives their names and what was made of them."""
    made: list[tuple[str, Any]] = []
    run = JITFunction.run

    @functools.wraps(run)
    def only_compile(self: Any, *args: Any, **options: Any) -> Any:
        compiled = run(self, *args, **{**options, "warmup": True})
        compiled = compiled.result() if hasattr(compiled, "result") else compiled
        made.append((self.fn.__name__, compiled))
        return compiled

    driver.set_active(_Nobody())
    JITFunction.run = only_compile
    try:
        yield made
    finally:
        JITFunction.run = run


def compiled(form: Form, dtype: torch.dtype, links: int, tokens: int = 16384) -> list[dict[str, Any]]:
    """A row for each kernel of a boundary behind so many links, of which the first without its state."""

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, parts, width, columns = form.rows, form.parts, form.width, form.columns
    small = (rows, columns) if form.mixer == "given" else (tokens, rows, columns)
    chain = [Link(empty(tokens, parts * width, dtype=dtype), empty(*small)) for _ in range(links)]
    if form.joint:
        operands = Operands(empty(form.raw), empty(form.raw, rows * width), None, empty(form.raw))
    elif form.mixer == "affine":
        fixed = empty(rows, columns)
        operands = Operands(fixed, empty(columns, width), empty(columns), torch.empty_like(fixed))
    else:
        operands = Operands(empty(rows, columns))
    state = empty(tokens, rows, width, dtype=dtype)
    with compiling() as kernels:
        made = triton_backend.forward(form, state, chain, operands, links < 2)
        g_x = torch.empty_like(made.x)
        triton_backend.backward(form, state, chain, operands, made, torch.empty_like(state), g_x, made.coefficients)
    return [usage(name, kernel) for name, kernel in kernels if name != "total_kernel"]


def usage(name: str, kernel: Any) -> dict[str, Any]:
    """Of one program."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        said = subprocess.run(
            [tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    registers, warps, shared = int(found[1]), kernel.metadata.num_warps, kernel.metadata.shared
    programs = min(REGISTERS // (registers * 32 * warps), WARPS // warps, SHARED // max(shared + 1024, 1))
    resident = programs * warps
    stack = int(found[2])
    return {
        "kernel": name,
        "warps": warps,
        "registers": registers,
        "stack": stack,
        "shared": shared,
        "resident": resident,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=FORMS, default=list(FORMS)[:6], metavar="FORM", help=" ".join(FORMS)
    )
    parser.add_argument("--width", nargs="+", type=int, default=[768, 2048])
    parser.add_argument("--links", nargs="+", type=int, default=[1])
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["bfloat16"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.only:
        for width in options.width:
            for dtype in options.dtype:
                for links in options.links:
                    what = {"form": name, "width": width, "dtype": dtype, "links": links}
                    found = [what | row for row in compiled(FORMS[name](width), getattr(torch, dtype), links)]
                    rows += found
                    if not options.json:
                        for row in found:
                            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        print(json.dumps({"triton": triton.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
