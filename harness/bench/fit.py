"""How much of a step fits: nobody is to find out by running out of memory half an hour later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.bench.arms import Entry
from harness.bench.presets import Preset
from harness.bench.work import Where, recipe_of
from harness.errors import UsageError
from harness.run.calibrate import ROOM, free_memory
from harness.suite.estimate import Machine
from harness.suite.schema import Arm


def fitted(preset: Preset, entries: Sequence[Entry], where: Where) -> Preset:
    """The preset with a batch that fits: what all entries keep between steps, and what the largest needs in one, take
    no more than `ROOM` of the free memory, by the formulas of docs/costs.md. A scale's batch is halved until they do.

    Raises UsageError where not even one sequence fits, or not the batch that the preset's name stands for.
    """
    free = ROOM * free_memory(torch.device(where.device))
    while (need := _need(preset, entries, where)) > free:
        if preset.fixed or preset.batch == 1:
            raise UsageError(
                f"--preset: {len(entries)} models of '{preset.name}' with {preset.batch} sequences need about "
                f"{need / 2**30:.3g} GiB together, and {free / 2**30:.3g} GiB may be taken; --arms names fewer"
            )
        preset = replace(preset, batch=preset.batch // 2)
    return preset


def _need(preset: Preset, entries: Sequence[Entry], where: Where) -> int:
    """Bytes."""
    here = Machine(name="here", place="cuda" if where.device == "cuda" else "cpu")
    between, within = [], []
    for entry in entries:
        arm = Arm(connection=entry.connection, model=preset.model, train=recipe_of(entry, preset, where).train)
        memory = here.memory(arm, preset.inputs)
        between.append(memory.weights + memory.optimiser)
        within.append(memory.total - between[-1])
    return sum(between) + max(within)
