"""A bench, start to end: who takes part, on what, measured block by block, and the document that says it all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from harness.bench import arms, machine, presets
from harness.bench.arms import Kernels
from harness.bench.fit import fitted
from harness.bench.measure import Block, measure, visits
from harness.bench.presets import Preset
from harness.bench.rounds import LEAST
from harness.bench.rows import rows
from harness.bench.work import SEED, Where, with_kernels
from harness.errors import FAILED, OK, UsageError
from harness.progress import Meter

ROUNDS = 15
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What the command line asks for."""

    preset: str | None = None
    arms: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    peer: bool = False
    compiled: bool = False
    kernels: Kernels | Literal["both"] = "auto"
    rounds: int = ROUNDS
    threads: int | None = None


@dataclass(frozen=True)
class Answer:
    """What was found, and the exit code: 1 where an arm could not be measured."""

    document: dict[str, Any]
    code: int


def bench(options: BenchOptions) -> Answer:
    """Measure all that is asked for. Raises UsageError for what cannot be asked, HarnessError where there is nothing to
    compare with."""
    if options.rounds < LEAST:
        raise UsageError(f"--rounds: {options.rounds} are too few for an interval; at least {LEAST}")
    device = _device(options.device)
    preset = presets.find(options.preset or (presets.CUDA_DEFAULT if device == "cuda" else presets.CPU_DEFAULT))
    where = Where(device=device, threads=options.threads or preset.threads or machine.cores())
    ours = with_kernels(arms.find(options.arms, preset), options.kernels, preset, where)
    peers = arms.peers(preset) if options.peer else []
    preset = fitted(preset, [*ours, *peers], where)
    busy = machine.busy_cores()
    if busy is not None and busy > machine.BUSY:
        _say(f"others use {busy:.1f} of {machine.cores()} cores now; times will be noisy, those of the CPU less so")
    plans = [[*ours, *peers]]
    if options.compiled:
        plans.append([replace(entry, compiled=True) for entry in plans[0]])
    with Meter("bench", sum(visits(len(plan), options.rounds) for plan in plans), "visits") as meter:
        blocks = [measure(plan, preset, where, options.rounds, meter) for plan in plans]
    document = _document(preset, where, options, blocks, busy)
    for name, why in document["failed"].items():
        _say(f"{name} could not be measured: {why}")
    return Answer(document, FAILED if document["failed"] else OK)


def _device(asked: str) -> str:
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device: torch sees no CUDA device here; cpu, or auto")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def _document(
    preset: Preset, where: Where, options: BenchOptions, blocks: Sequence[Block], busy: float | None
) -> dict[str, Any]:
    eager, *compiled = [rows(block, preset) for block in blocks]
    device = torch.device(where.device)
    own = [row for row in eager if row["arm"] not in arms.PEERS]
    document = {
        "format": FORMAT,
        "preset": preset.name,
        "device": where.device,
        "arms": own,
        "peer": [row for row in eager if row["arm"] in arms.PEERS],
        "compiled": compiled[0] if compiled else [],
        "failed": {name: why for block in blocks for name, why in block.failed.items()},
        "hardware": machine.name(device),
        "threads": where.threads,
        "copy_bandwidth": blocks[0].bandwidth,
        "product_rate": machine.product_rate(device, preset.precision),
        "busy_cores": busy,
        "rounds": options.rounds,
        "steps": [block.steps for block in blocks],
        "seed": SEED,
        "shape": {
            **preset.model.model_dump(mode="json", exclude_defaults=True),
            "vocabulary": preset.inputs.vocabulary, "batch": preset.batch, "precision": preset.precision,
        },
        "machine": machine.facts(),
    }  # fmt: skip
    return document


def _say(line: str) -> None:
    print(f"harness bench: {line}", file=sys.stderr, flush=True)
