"""Entries measured beside each other in this process: one block of a table."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from harness.bench.arms import Entry
from harness.bench.machine import Copy
from harness.bench.memory import peak_bytes
from harness.bench.presets import Preset
from harness.bench.rounds import WARMUP, Rounds, Visit, take_turns, why
from harness.bench.work import SEED, Where, kernels_of, make_stepper
from harness.errors import HarnessError
from harness.progress import Meter
from harness.run.lane import Lane, open_lane

VISIT_SECONDS, MOST_STEPS = 0.1, 20
"""A visit is one step, or as many as make this long at the baseline's pace."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found of an entry, besides its rounds."""

    entry: Entry
    kernels: str | None
    compile_seconds: float | None
    """None for what is not compiled."""
    saved_bytes: int
    peak_bytes: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """Entries that were measured together, the baseline first."""

    device: str
    """cpu or cuda."""
    entries: dict[str, Measured]
    rounds: Rounds
    steps: int
    """Of a visit."""
    bandwidths: list[float]
    """Of a copy, round by round."""
    failed: dict[str, str]
    """Name -> why."""

    @property
    def bandwidth(self) -> float:
        return statistics.median(self.bandwidths)


def visits(entries: int, rounds: int) -> int:
    """How much there is to do: making each and its peak count as one visit each."""
    return entries * (2 + WARMUP + rounds)


def measure(entries: Sequence[Entry], preset: Preset, where: Where, rounds: int, meter: Meter) -> Block:
    """The entries' block; the first of them is the baseline. Raises HarnessError where that one fails."""
    device = torch.device(where.device)
    failed: dict[str, str] = {}
    peaks = _peaks(entries, preset, where, failed, meter) if device.type == "cpu" else {}
    lanes: dict[str, Lane] = {}
    for entry in entries:
        if entry.name in failed:
            continue
        try:
            lanes[entry.name] = open_lane(partial(make_stepper, entry, preset, where), device)
        except Exception as error:
            failed[entry.name] = why(error)
        if entry.name in failed:  # and its memory is nobody's any more
            _tidy(device)
        meter.add(1)
    _check_baseline(entries[0], failed)
    steps = max(1, min(MOST_STEPS, math.ceil(VISIT_SECONDS / lanes[entries[0].name].step_seconds)))
    copy, bandwidths = Copy(device), list[float]()

    def visit(name: str) -> Visit:
        meter.add(1)
        lanes[name].visit(steps)
        return Visit(lanes[name].seconds[-1], lanes[name].cpu_seconds[-1])

    def lose(name: str) -> None:
        del lanes[name]
        _tidy(device)

    def begin() -> None:
        bandwidths.append(copy.bandwidth())

    found = take_turns(list(lanes), visit, rounds, SEED, begin=begin, lose=lose)
    failed.update(found.failed)
    _check_baseline(entries[0], failed)
    made = {
        entry.name: _measured(lanes[entry.name], entry, peaks.get(entry.name), kernels_of(entry, preset, where))
        for entry in entries
        if entry.name in found.visits
    }
    lanes.clear()
    _tidy(device)
    torch._dynamo.reset()
    return Block(
        device=where.device, entries=made, rounds=found, steps=steps, bandwidths=bandwidths[WARMUP:], failed=failed
    )


def _peaks(
    entries: Sequence[Entry], preset: Preset, where: Where, failed: dict[str, str], meter: Meter
) -> Mapping[str, int | None]:
    """By name; of compiled models none, which would be compiled once more for it."""
    found: dict[str, int | None] = {}
    for entry in entries:
        try:
            found[entry.name] = None if entry.compiled else peak_bytes(entry, preset, where)
        except HarnessError as error:
            failed[entry.name] = str(error)
        meter.add(1)
    return found


def _measured(lane: Lane, entry: Entry, peak: int | None, kernels: str | None) -> Measured:
    return Measured(
        entry=entry,
        kernels=kernels,
        compile_seconds=lane.stepper.losses.seconds,
        saved_bytes=lane.saved_bytes,
        peak_bytes=peak if lane.peak is None else lane.peak,
        parameters=lane.stepper.parameters,
    )


def _check_baseline(baseline: Entry, failed: Mapping[str, str]) -> None:
    if baseline.name in failed:
        raise HarnessError(f"the baseline '{baseline.name}' cannot be measured: {failed[baseline.name]}")


def _tidy(device: torch.device) -> None:
    """Give back what a model held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
