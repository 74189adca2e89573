"""What a training step of every arm takes on this machine: a few steps each, before a budget is trusted."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from collections.abc import Iterable

import torch

from harness.connections.settings import ConnectionSettings
from harness.data.load import Data, inputs_of
from harness.errors import UsageError
from harness.models.cost import Place
from harness.models.settings import ModelSettings
from harness.suite.cells import stream_seeds
from harness.suite.estimate import Machine
from harness.suite.schema import SeedStreams, Suite
from harness.training.recipe import Recipe, device_of
from harness.training.settings import TrainSettings
from harness.training.step import Stepper

STEPS, SECONDS = 5, 3.0
"""Measured steps of an arm: so many, or as many as fit this time, after one that warms up."""
ROOM = 0.9
"""Share of the free memory that models beside each other may take together; the formulas are good to a tenth."""


def this_machine(suite: Suite, data: Data, arms: Iterable[str]) -> Machine:
    """A machine whose step times were measured for `arms`, each on its own, with real batches. Raises UsageError for an
    arm that its free memory does not hold."""
    seconds: dict[str, float] = {}
    known: dict[tuple[ConnectionSettings, ModelSettings, TrainSettings], float] = {}
    inputs = inputs_of(data)
    place: Place = "cuda" if torch.cuda.is_available() else "cpu"
    machine = Machine(name="this machine", place=place, cores=os.cpu_count() or 1)
    for name in arms:
        print(f"measuring a step of {name}", file=sys.stderr)
        arm = suite.arms[name]
        key = arm.connection, arm.model, arm.train
        if key not in known:
            device = device_of(arm.train)
            need, free = machine.memory(arm, inputs).total, free_memory(device)
            if need > free:
                gib = f"about {need / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB are free"
                raise UsageError(
                    f"measuring here: a step of the arm '{name}' needs {gib}; harness plan --device h200 estimates"
                )
            recipe = Recipe(
                connection=arm.connection,
                model=arm.model,
                train=arm.train,
                inputs=inputs,
                data=suite.data,
                streams=stream_seeds(suite.seeds[0], SeedStreams()),
            )
            known[key] = step_seconds(recipe, data, device)
        seconds[name] = known[key]
    return dataclasses.replace(machine, step_seconds=seconds)


def free_memory(device: torch.device) -> int:
    """Bytes on the device, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def step_seconds(recipe: Recipe, data: Data, device: torch.device) -> float:
    """Median seconds of a training step (`Stepper.seconds`)."""
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            stepper = Stepper.of(recipe, data, device)
            stepper.seconds(1)
            times: list[float] = []
            while len(times) < STEPS and (not times or sum(times) < SECONDS):
                times.append(stepper.seconds(1))
    finally:
        torch.set_num_threads(threads)
    if device.type == "cuda":  # the workers want it
        del stepper
        torch.cuda.empty_cache()
    return statistics.median(times)
