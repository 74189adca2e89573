"""The Triton kernels on a GPU: whether they are right there, and how near they come to the bandwidth of its memory.

    python benchmarks/boundary_gpu.py --output boundary.json                 # minutes, of which most compile
    python benchmarks/boundary_gpu.py --sweep --forms dhc-n4 --widths 768    # other amounts of work for a thread
    TRITON_INTERPRET=1 python benchmarks/boundary_gpu.py --tokens 3 --check-tokens 2 --widths 16 --rounds 1

Needs torch, Triton and this checkout, nothing else. First every form is held to the reference in float64, in fp32 and
bf16, and to itself, bit for bit. Then kernels and the plain form (the reference in fp32, from and to bf16, as eager
PyTorch) are timed in turn. `of copy` is the traffic that a boundary cannot do without, (2R + 2P) W numbers a token
forward and (3R + 3P) W backward, by the time it took, as a part of what a copy of one tensor to another attains.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from boundary_sm90 import FORMS

from harness.connections.kernels import reference, triton_backend
from harness.connections.kernels.form import Form, Grads, Link, Made, Operands

DEVICE = "cpu" if triton_backend.INTERPRETED else "cuda"
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 2**-7}
"""Relative to the largest entry. What bf16 rounds is 2^-8, and what tensor cores round is less than as much again."""


class Case(NamedTuple):
    """What a boundary is given, and the gradients that reach it."""

    form: Form
    state: Tensor
    links: list[Link]
    operands: Operands
    g_next: Tensor
    g_x: Tensor
    g_coefficients: Tensor | None


def case(form: Form, tokens: int, dtype: torch.dtype, links: int = 1, seed: int = 0) -> Case:
    """Random, with the large tensors in `dtype`."""
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def normal(*shape: int, std: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (std * torch.randn(shape, generator=generator, device=DEVICE)).to(dtype)

    rows, parts, width, columns, raw = form.rows, form.parts, form.width, form.columns, form.raw
    start = torch.zeros(rows, columns, device=DEVICE)
    start[:, parts : parts + rows] = torch.eye(rows)
    each = () if form.mixer == "given" else (tokens,)
    chain = [
        Link(normal(tokens, parts * width, dtype=dtype), start + normal(*each, rows, columns, std=0.3))
        for _ in range(links)
    ]
    if form.joint:
        weights = normal(raw, rows * width, std=(rows * width) ** -0.5)
        operands = Operands(normal(raw), weights, None, normal(raw))
    elif form.mixer == "affine":
        weights = normal(columns, width, std=width**-0.5)
        operands = Operands(start + normal(rows, columns, std=0.3), weights, normal(columns), normal(rows, columns))
    else:
        operands = Operands(start + normal(rows, columns, std=0.3))
    return Case(
        form,
        normal(tokens, rows, width, dtype=dtype),
        chain,
        operands,
        normal(tokens, rows, width, dtype=dtype),
        normal(tokens, parts * width, dtype=dtype),
        normal(tokens, rows, columns) if form.mixer != "given" else None,
    )


def forward(given: Case) -> Made:
    return triton_backend.forward(given.form, given.state, given.links, given.operands, True)


def backward(given: Case, made: Made) -> Grads:
    return triton_backend.backward(*given[:4], made, *given[4:])


def plain(given: Case, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """What the reference makes of it in `dtype`, and its leaves: state, output and coefficients of the last link,
    operands."""
    state = given.state.to(dtype)
    for link in given.links[:-1]:
        state = reference.combine(given.form, state, Link(*(one.to(dtype) for one in link)))
    leaves = [state, *given.links[-1], *(one for one in given.operands if one is not None)]
    leaves = [one.detach().clone().requires_grad_() for one in leaves]
    wide = [one.to(dtype) for one in leaves]
    small = iter(wide[3:])
    operands = Operands(*[None if one is None else next(small) for one in given.operands])
    made = reference.boundary(given.form, wide[0], [Link(wide[1], wide[2])], operands)
    return [one for one, had in zip(made, (1, 1, given.g_coefficients), strict=True) if had is not None], leaves


def differentiate(given: Case, made: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    incoming = [one.to(made[0].dtype) for one in (given.g_next, given.g_x, given.g_coefficients) if one is not None]
    return list(torch.autograd.grad(made, leaves, incoming, allow_unused=True, materialize_grads=True))


def check(form: Form, tokens: int, dtype: torch.dtype) -> dict[str, Any]:
    """The result that is furthest from the reference, and whether the same comes out again."""
    given = case(form, tokens, dtype, links=2)
    made, leaves = plain(given, torch.float64)
    right = [one.detach() for one in (*made, *differentiate(given, made, leaves))]
    right[len(made) + 2][..., : form.parts] = 0  # read columns of a link are counted where they read
    names = ["next", "x", "coefficients"][: len(made)]
    names += [
        "g_state",
        "g_out",
        "g_link",
        *(f"g_{n}" for n, one in given.operands._asdict().items() if one is not None),
    ]
    runs = []
    for _ in range(2):
        ours = forward(given)
        grads = backward(given, ours)
        runs.append([one for one in (*ours[:3], *grads) if one is not None])
    gaps = {
        name: float((one.double() - other).abs().max() / other.abs().max().clamp_min(1e-30))
        for name, one, other in zip(names, runs[0], right, strict=True)
    }
    worst = max(gaps, key=lambda name: gaps[name] if gaps[name] == gaps[name] else float("inf"))
    same = all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
    return {"worst": worst, "gap": gaps[worst], "same": same, "ok": same and gaps[worst] <= LIMITS[dtype]}


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Of one, in a row of them."""
    if DEVICE == "cpu":
        start = time.perf_counter()
        action()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeats):
        action()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


def in_turn(actions: dict[str, Callable[[], object]], rounds: int, repeats: int = 5) -> dict[str, float]:
    """Medians over rounds in which each has its turn, after one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            taken[name].append(seconds(action, repeats))
    return {name: statistics.median(found[1:]) for name, found in taken.items()}


def copy_bandwidth(rounds: int) -> float:
    """Bytes a second, read and written."""
    one = torch.empty(2**29 if DEVICE == "cuda" else 2**20, dtype=torch.int8, device=DEVICE)
    other = torch.empty_like(one)
    return 2 * one.numel() / in_turn({"copy": lambda: other.copy_(one)}, rounds)["copy"]


def timed(form: Form, tokens: int, rounds: int, bandwidth: float, eager: bool = True) -> dict[str, Any]:
    """In bf16, behind one link."""
    given = case(form, tokens, torch.bfloat16)
    made = forward(given)
    actions: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(given),
        "backward": lambda: backward(given, made),
    }
    if eager:

        def both() -> object:
            found, leaves = plain(given, torch.float32)
            return differentiate(given, [one.bfloat16() for one in found[:2]] + found[2:], leaves)

        actions["eager"] = both
    took = in_turn(actions, rounds)
    numbers = tokens * (form.rows + form.parts) * form.width * 2
    for name, passes in (("forward", 2), ("backward", 3)):
        took[f"{name}_of_copy"] = passes * numbers / took[name] / bandwidth
    if eager:
        took["eager_ratio"] = took["eager"] / (took["forward"] + took["backward"])
    return took


def swept(form: Form, tokens: int, rounds: int, bandwidth: float) -> list[dict[str, Any]]:
    """With other numbers of a state for each thread (triton_sizes); kernels of rows only."""
    found = []
    kept = triton_backend.FORWARD, triton_backend.BACKWARD
    for forward_numbers, backward_numbers in ((32, 96), (48, 144), (64, 192), (96, 256)):
        triton_backend.FORWARD, triton_backend.BACKWARD = forward_numbers, backward_numbers
        row = {"forward_numbers": forward_numbers, "backward_numbers": backward_numbers}
        found.append(row | timed(form, tokens, rounds, bandwidth, eager=False))
    triton_backend.FORWARD, triton_backend.BACKWARD = kept
    return found


def shown(row: dict[str, Any]) -> str:
    cells = []
    for name, value in row.items():
        if name in ("forward", "backward", "eager"):
            value = f"{1e6 * value:.0f} us"
        elif isinstance(value, float):
            value = f"{value:.2e}" if name == "gap" else f"{value:.3f}"
        cells.append(f"{name} {value}")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS)[:6], metavar="FORM", help=" ".join(FORMS)
    )
    parser.add_argument("--widths", nargs="+", type=int, default=[768, 2048])
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--check-tokens", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "interpreted"
    bandwidth = copy_bandwidth(options.rounds)
    print(f"{name}, torch {torch.__version__}, copy {bandwidth / 1e12:.2f} TB/s", flush=True)
    document: dict[str, Any] = {"device": name, "torch": torch.__version__, "copy": bandwidth, "rows": []}
    for form_name in options.forms:
        for width in options.widths:
            form, row = FORMS[form_name](width), {"form": form_name, "width": width}
            checks = {} if options.sweep else {t: check(form, options.check_tokens, t) for t in LIMITS}
            for dtype, found in checks.items():
                print(shown(row | {"dtype": str(dtype).removeprefix("torch.")} | found), flush=True)
            asked = (form, options.tokens, options.rounds, bandwidth)
            for took in swept(*asked) if options.sweep and not form.joint else [timed(*asked)]:
                print(shown(row | took), flush=True)
                document["rows"].append(row | took | {str(dtype): found for dtype, found in checks.items()})
            if options.output:
                options.output.write_text(json.dumps(document, indent=2) + "\n")
    wrong = [row for row in document["rows"] if not all(row[str(t)]["ok"] for t in LIMITS if str(t) in row)]
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
