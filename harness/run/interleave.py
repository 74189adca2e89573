"""Arms measured beside each other in one process: A B C, C B A, A B C, ... so that whatever else the machine does meets
all of them alike. What a worker process does for `measure.py`."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from harness.data.load import Data, inputs_of
from harness.errors import first_line
from harness.run.calibrate import ROOM, free_memory
from harness.run.cell import load_cell_data
from harness.run.environment import environment, torch_environment
from harness.run.finished import recipe_of
from harness.run.lane import Lane, open_lane
from harness.suite.estimate import Machine
from harness.suite.schema import Arm
from harness.training.recipe import Recipe, device_of
from harness.training.step import Stepper

ROUNDS, LEAST_ROUNDS = 9, 5
STEPS = 3
"""Of a visit, at most."""

Pair = tuple[str, str]
"""(arm, baseline)."""


def measure(
    configs: Mapping[str, dict[str, Any]], pairs: Sequence[Pair], data: Data, budget_seconds: float
) -> dict[str, Any]:
    """{"groups": what was measured together, "skipped": arm -> why}. `configs` are those of cells, by arm; in every
    group a baseline is among those that are compared with it."""
    recipes = {name: recipe_of(config, inputs_of(data)) for name, config in configs.items()}
    groups, skipped = grouped(recipes, pairs)
    measured = []
    for names in groups:
        group = _measure_group({name: recipes[name] for name in names}, data, budget_seconds / len(groups), skipped)
        if group["arms"]:
            measured.append(group)
    return {"groups": measured, "skipped": skipped}


def grouped(recipes: Mapping[str, Recipe], pairs: Sequence[Pair]) -> tuple[list[list[str]], dict[str, str]]:
    """(arms whose models fit the free memory together, arm -> why not even it and its baseline do). A group holds
    everything that its arms keep between steps, and what one of them needs in a step."""
    devices = {name: device_of(recipe.train) for name, recipe in recipes.items()}
    free = {device: int(ROOM * free_memory(device)) for device in set(devices.values())}
    between, within = {}, {}
    for name, recipe in recipes.items():
        here = Machine(name="here", place="cuda" if devices[name].type == "cuda" else "cpu")
        settings = Arm(connection=recipe.connection, model=recipe.model, train=recipe.train)
        memory = here.memory(settings, recipe.inputs)
        between[name] = memory.weights + memory.optimiser
        within[name] = memory.total - between[name]

    def need_of(names: Iterable[str], device: torch.device) -> int:
        here = [name for name in names if devices[name] == device]
        return sum(between[name] for name in here) + max((within[name] for name in here), default=0)

    def fit(names: Iterable[str]) -> bool:
        return all(need_of(names, device) <= free[device] for device in free)

    groups: list[list[str]] = []
    skipped: dict[str, str] = {}
    for arm, baseline in pairs:
        pair = list(dict.fromkeys((baseline, arm)))
        joined = list(dict.fromkeys((*(groups[-1] if groups else ()), *pair)))
        if groups and fit(joined):
            groups[-1] = joined
        elif fit(pair):
            groups.append(pair)
        else:
            device = devices[arm]
            about = f"about {_gib(need_of(pair, device))}, and {_gib(free[device])} may be taken"
            skipped[arm] = f"beside its baseline it needs {about}"
    return groups, skipped


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _measure_group(
    recipes: Mapping[str, Recipe], data: Data, budget_seconds: float, skipped: dict[str, str]
) -> dict[str, Any]:
    """What cannot be made or run is added to `skipped`."""
    began = time.perf_counter()
    lanes: dict[str, Lane] = {}
    for name, recipe in recipes.items():
        try:
            device = device_of(recipe.train)
            lanes[name] = open_lane(partial(Stepper.of, recipe, data, device), device)
        except Exception as error:
            print(f"{name}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            skipped[name] = f"{type(error).__name__}: {first_line(error)}"
    left = budget_seconds - (time.perf_counter() - began)
    each = sum(lane.step_seconds for lane in lanes.values())
    steps = max(1, min(STEPS, int(left / (ROUNDS * each)))) if each else 1
    rounds = alternate(list(lanes), lambda name: lanes[name].visit(steps), left)
    found = {
        "arms": list(lanes),
        "rounds": rounds,
        "steps": steps,
        "seconds": {name: lane.seconds for name, lane in lanes.items()},
        "first_step_seconds": {name: lane.first_step_seconds for name, lane in lanes.items()},
        "compile_seconds": {name: lane.stepper.losses.seconds for name, lane in lanes.items()},
        "saved_bytes": {name: lane.saved_bytes for name, lane in lanes.items()},
        "positions_per_step": {name: lane.stepper.positions for name, lane in lanes.items()},
        "peak_bytes": {name: lane.peak for name, lane in lanes.items()},
        "parameters": {name: lane.stepper.parameters for name, lane in lanes.items()},
    }
    lanes.clear()  # the next group wants the memory
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def alternate(names: Sequence[str], visit: Callable[[str], None], seconds: float) -> int:
    """Visit all names in their order, then in the reverse, and so on: ROUNDS times, or fewer where these would take
    longer than `seconds`, but never under LEAST_ROUNDS. Returns how often."""
    began = time.perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and (time.perf_counter() - began) * (done + 1) / done > seconds:
            return done
        for name in names if done % 2 == 0 else reversed(names):
            visit(name)
    return ROUNDS


def work(
    answer: Connection,
    configs: Mapping[str, dict[str, Any]],
    pairs: Sequence[Pair],
    relative_to: str | None,
    budget_seconds: float,
    log: str,
) -> None:
    """Entry point of the worker: sends what `measure` returns and the machine, or {"error": what went wrong}."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides, and ends us with SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    with Path(log).open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    try:
        data = load_cell_data(next(iter(configs.values())), Path(relative_to) if relative_to else None)
        found = measure(configs, pairs, data, budget_seconds)
        found["machine"] = {**environment(), **torch_environment()}
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        found = {"error": f"{type(error).__name__}: {first_line(error)}"}
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        answer.send(found)


def _end_with_parent() -> None:
    """There is nothing to save when the runner dies without a word."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
