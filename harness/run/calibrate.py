"""What a training step of every arm takes on this machine: a few steps each, before a budget is trusted."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterable

import torch

from harness.connections.settings import ConnectionSettings
from harness.data.load import Data, inputs_of
from harness.models.settings import ModelSettings
from harness.suite.cells import stream_seeds
from harness.suite.estimate import Machine
from harness.suite.schema import SeedStreams, Suite
from harness.training.objective import make_objective
from harness.training.optim import make_optimizer
from harness.training.recipe import Recipe, build_model
from harness.training.settings import TrainSettings

STEPS, SECONDS = 5, 3.0
"""Measured steps of an arm: so many, or as many as fit this time, after one that warms up."""


def this_machine(suite: Suite, data: Data, arms: Iterable[str]) -> Machine:
    """A machine whose step times were measured for `arms`, each on its own, with the real batch."""
    seconds: dict[str, float] = {}
    known: dict[tuple[ConnectionSettings, ModelSettings, TrainSettings], float] = {}
    for name in dict.fromkeys(arms):
        arm = suite.arms[name]
        key = arm.connection, arm.model, arm.train
        if key not in known:
            recipe = Recipe(
                connection=arm.connection,
                model=arm.model,
                train=arm.train,
                inputs=inputs_of(suite.data, data),
                data=suite.data,
                streams=stream_seeds(suite.seeds[0], SeedStreams()),
            )
            known[key] = step_seconds(recipe, data)
        seconds[name] = known[key]
    return Machine(name="this machine", step_seconds=seconds)


def step_seconds(recipe: Recipe, data: Data) -> float:
    """Median seconds of a whole training step: batch, forward, backward, clipping, optimiser."""
    settings = recipe.train
    use_cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    objective, model = make_objective(recipe, data), build_model(recipe).to(device)
    optimizer = make_optimizer(model, settings)
    piece = settings.micro_batch_size or settings.batch_size

    def step(number: int) -> float:
        began = time.perf_counter()
        batch = [torch.from_numpy(array) for array in objective.batch(number)]
        for first in range(0, settings.batch_size, piece):
            part = [tensor[first : first + piece].to(device) for tensor in batch]
            precise = contextlib.nullcontext()
            with torch.autocast(device.type, torch.bfloat16) if settings.precision == "bf16" else precise:
                loss = objective.losses(model, *part).mean() + sum(model.auxiliary_losses().values())
            (loss * (len(part[0]) / settings.batch_size)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        if use_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    try:
        with torch.random.fork_rng(devices=[device] if use_cuda else []):
            step(0)
            times: list[float] = []
            while len(times) < STEPS and (not times or sum(times) < SECONDS):
                times.append(step(len(times) + 1))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times)
