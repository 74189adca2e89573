"""How large the pieces are that a GPU takes. All follows from the form and the kind of GPU, nothing from a clock: the
same numbers are computed in the same order wherever and whenever they are."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import triton

from harness.connections.kernels.form import Form

REGISTERS = 65536
"""Of a processor, in 32 bits."""

FORWARD = 64
"""Numbers of the state that a thread holds in a forward pass,"""

BACKWARD = 192
"""and in a backward pass of the state before and behind, of its gradient, of outputs and of weights."""

CROWDED = 150
"""Numbers and coefficients of a thread that 128 registers cannot hold without spilling many."""

PRODUCTS = {"T": 64, "BLOCK": 16}
"""Tiles of tokens and columns where products with weights are wanted row by row. Each of four warps has all columns of
sixteen tokens, as tensor cores take them: with wider tiles they would share tokens and do all the rest four times."""

SUMS = {"T": 32, "BLOCK": 64}
"""Tiles where sums are."""


class Tiles(NamedTuple):
    """How a program holds whole rows."""

    block: int
    chunks: int
    warps: int
    programs: int
    """That a processor has room for."""

    def options(self) -> dict[str, Any]:
        """What a kernel is compiled with; the bound on registers makes the room."""
        registers = min(REGISTERS // (self.programs * self.warps * 32) // 8 * 8, 255)
        return {"BLOCK": self.block, "CHUNKS": self.chunks, "num_warps": self.warps, "maxnreg": registers}


@functools.cache
def rows_held(width: int, rows: int, numbers: int, coefficients: int) -> Tiles:
    """For `rows` rows in registers, about `numbers` of theirs a thread, and so many coefficients. Few threads with much
    each: what all repeat, and every sum over a row, is paid by the warp. At most 16 warps, where registers end."""
    warps = min(power(-(-rows * width // (32 * numbers))), 16)
    # Up to four columns of a tile lie in one thread, for fp32 weights as for a bf16 state: nothing need be moved.
    blocks = [min(32 * warps * columns, power(width)) for columns in (4, 2, 1)]
    block = min(blocks, key=lambda size: -(-width // size) * size)
    # Twelve warps have 168 registers each. What sixteen with 128 would spill might not find room in the cache.
    crowded = rows * width // (32 * warps) + coefficients > CROWDED
    return Tiles(block, -(-width // block), warps, max(12 // warps, 1 if warps > 8 or crowded else 2))


def tokens_held(form: Form, tile: dict[str, int]) -> dict[str, Any]:
    """For some columns of some tokens. With many rows there is less room for columns, and none to load more early."""
    columns = tile["BLOCK"] if form.rows <= 4 else 16
    return {
        "R": form.rows, "W": form.width, "K": form.raw,
        "T": tile["T"], "BLOCK": min(columns, max(power(form.width), 16)),
        "num_warps": 4, "num_stages": 2 if form.rows <= 8 else 1, "enable_fp_fusion": True,
    }  # fmt: skip


def grouped(form: Form, dtype: torch.dtype) -> dict[str, Any]:
    """How products with weights are made: of raw numbers in groups that registers have room for, and for a state in
    bf16 on tensor cores, which round what they multiply to eleven bits."""
    size = min(max(power(form.raw), 16), 32)
    precision = "ieee" if dtype == torch.float32 else "tf32"
    return {"KG": size, "GROUPS": -(-form.raw // size), "PRECISION": precision}


def power(number: int) -> int:
    """The next power of two."""
    return int(triton.next_power_of_2(number))


def log2(number: int) -> int:
    """Of the next power of two, and at least 1."""
    return max(power(number).bit_length() - 1, 1)


@functools.cache
def programs(device: torch.device, each: int) -> int:
    """How many programs share the tokens where each sums over its own: `each` for a processor, two when interpreted."""
    if device.type != "cuda":
        return 2
    return each * int(torch.cuda.get_device_properties(device).multi_processor_count)
